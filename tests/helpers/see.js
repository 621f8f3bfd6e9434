// What a reader sees inside the element `root` names; the caller is playwright (see browser.py).
(root) => {
  const whole = document.querySelector(root);
  const all = (selector) => [...whole.querySelectorAll(selector)];
  const formulae = "mjx-container, .MathJax, .katex, math";
  const words = (node) => (node.innerText ?? node.textContent).replace(/\s+/g, " ").trim();

  // The bold name that begins a caption: in the same output as a table, or in the output after a picture.
  const captionNear = (node) => {
    for (let at = node; at && at !== whole; at = at.parentElement) {
      for (let next = at.nextElementSibling; next; next = next.nextElementSibling) {
        const bold = next.matches("strong") ? next : next.querySelector("strong");
        if (bold) return words(bold).replace(/\.$/, "");
        if (next.querySelector("img, table")) return null;
      }
      if (at.matches(".jp-Cell, .cell")) return null;
    }
    return null;
  };

  const colour = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const light = ({ r, g, b }) => {
    const linear = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const over = (top, below) => ({
    r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a),
    b: top.b * top.a + below.b * (1 - top.a), a: 1,
  });
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(colour(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const contrast = (node) => {
    const ground = behind(node);
    const style = getComputedStyle(node);
    const [one, two] = [light(over(colour(node instanceof SVGElement ? style.fill : style.color), ground)), light(ground)];
    return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  };

  const shown = ".jp-OutputArea-output, .jp-MarkdownOutput, .cell_output, section > p, section > div, section > figure";
  const cut = all(`:is(${shown}), :is(${shown}) :is(table, pre, img, p, li)`).filter((node) => {
    const box = node.getBoundingClientRect();
    const scrolls = node.scrollWidth > node.clientWidth + 1 && !["inline", "inline-block"].includes(getComputedStyle(node).display);
    return box.width > 0 && (scrolls || box.right > document.documentElement.clientWidth + 1);
  });
  const texts = all(`:is(${shown}) :is(p, li, td, th, pre, strong, em, code, a, h1, h2, h3, span, label, text)`).filter((node) =>
    node.getBoundingClientRect().width > 0 && [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim()));
  const faint = texts.map((node) => [contrast(node), words(node).slice(0, 60)]).filter(([ratio]) => ratio < 4.5);

  return {
    mathematics: all(formulae).filter((node) => !node.parentElement.closest(formulae)).map((node) => words(node.parentElement).slice(0, 80)),
    // A table that a click opens, that of the parameters, is no result with a name.
    tables: all(".jp-OutputArea-output table, .cell_output table").filter((node) => !node.closest("details")).map((node) => ({
      name: captionNear(node),
      head: [...node.tHead.rows[0].cells].map(words),
      rows: [...node.tBodies[0].rows].map((row) => [...row.cells].map(words)),
    })),
    pictures: all("img").map((node) => ({
      name: captionNear(node), alt: node.alt, source: node.getAttribute("src"), width: node.naturalWidth,
    })),
    cut: cut.map((node) => `${node.tagName.toLowerCase()} ${words(node).slice(0, 60)}`),
    faint: faint.map(([ratio, text]) => `${ratio.toFixed(1)}:1 ${text}`),
    texts: texts.length,
  };
}
