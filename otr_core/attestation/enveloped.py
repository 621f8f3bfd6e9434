"""The XML signature of a manifest, in the one form that NVIDIA signs (XML Signature 1.1, W3C 2013).

It is enveloped, over the whole document, in canonical XML 1.1, with SHA-384 and ECDSA on P-384. Every
element of a signature is compared with that form, and one that differs in any point is refused: no
choice of whoever wrote the file decides how it is read.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from otr_core.attestation import chain as chains
from otr_core.errors import EvidenceError, one_line, reported_as

DSIG = "http://www.w3.org/2000/09/xmldsig#"
_C14N, _MORE = "http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/2001/04/xmldsig-more#"
_CERTIFICATE = f"{{{DSIG}}}X509Certificate"
#: The elements of a signature in their order, certificates apart: depth, name, the one attribute.
_FORM = (
    (0, "Signature", "", ""),
    (1, "SignedInfo", "", ""),
    (2, "CanonicalizationMethod", "Algorithm", _C14N),
    (2, "SignatureMethod", "Algorithm", f"{_MORE}ecdsa-sha384"),
    (2, "Reference", "URI", ""),
    (3, "Transforms", "", ""),
    (4, "Transform", "Algorithm", f"{DSIG}enveloped-signature"),
    (4, "Transform", "Algorithm", _C14N),
    (3, "DigestMethod", "Algorithm", f"{_MORE}sha384"),
    (3, "DigestValue", "", ""),
    (1, "SignatureValue", "", ""),
    (1, "KeyInfo", "", ""),
    (2, "X509Data", "", ""),
)
_PARTS = tuple((depth, f"{{{DSIG}}}{name}", {key: value} if key else {}) for depth, name, key, value in _FORM)


def xml_parser() -> Any:
    """A parser that expands no entity, fetches nothing, reads no DTD and keeps size limits."""
    from lxml import etree

    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def enveloped_problem(data: bytes, key: object) -> str | None:
    """None, or why ``key`` did not sign all of a document:

    1. There is one signature, a child of the root, and it has the one form.
    2. ``key`` signed what is in its SignedInfo.
    3. The digest stated there is the digest of the document without the signature.

    So where there is no problem, every element and attribute of the document outside the signature,
    as the parser (``xml_parser``) gives them, is what ``key`` signed: they are what is hashed.

    Args:
        data: the document with its signature, well-formed and without a document type.
        key: public key; whose it is, the caller has to know.
    """
    from lxml import etree

    try:
        # 1. There is one signature, a child of the root, and it has the one form.
        root = etree.fromstring(data, parser=xml_parser())
        signatures = list(root.iter(f"{{{DSIG}}}Signature"))
        if len(signatures) != 1 or signatures[0].getparent() is not root:
            return f"found {len(signatures)} signatures, expected one, in the root element"
        signature = signatures[0]
        problem = _form_problem(signature)
        if problem is not None:
            return problem

        # 2. ``key`` signed what is in its SignedInfo.
        info = _canonical(signature[0])
        problem = chains.signature_problem(key, _decoded(signature[1]), info, hashes.SHA384(), ec.SECP384R1)
        if problem is not None:
            return problem

        # 3. The digest stated there is the digest of the document without the signature.
        stated = _decoded(signature[0].find(f".//{{{DSIG}}}DigestValue"))
        _remove(signature)
        found = hashlib.sha384(_canonical(root)).digest()
    except (EvidenceError, etree.LxmlError) as error:  # as of what has no canonical form
        return one_line(error, 160)
    return None if found == stated else f"manifest hashes to {found.hex()[:16]}…, signed is {stated.hex()[:16]}…"


def _canonical(element: Any) -> bytes:
    from lxml import etree

    written: bytes = etree.tostring(element, method="c14n", with_comments=False, with_tail=False)
    return written


def _form_problem(signature: Any) -> str | None:
    expected = iter(_PARTS)
    for depth, element in _walk(signature, 0):
        wanted, part = next(expected, None), (depth, element.tag, dict(element.attrib))
        if part != wanted and (wanted is not None or part != (3, _CERTIFICATE, {})):
            shown = f"{str(element.tag).rpartition('}')[2][:40]} {str(part[2])[:110]}"
            name = "nothing more" if wanted is None else f"{wanted[1].rpartition('}')[2]} {wanted[2]}"
            return f"found {shown}, expected {name}"
    missing = next(expected, None)
    return None if missing is None else f"found no {missing[1].rpartition('}')[2]}"


def _walk(element: Any, depth: int) -> Any:
    """An element and all below it, comments and instructions too, in document order, with depths."""
    yield depth, element
    for child in element:
        yield from _walk(child, depth + 1)


def _decoded(element: Any) -> bytes:
    with reported_as(EvidenceError, "found a value that is not base64", ValueError):
        return base64.b64decode("".join((element.text or "").split()), validate=True)


def _remove(signature: Any) -> None:
    """Take the element out of its document; the text behind it stays."""
    before, parent, text = signature.getprevious(), signature.getparent(), signature.tail or ""
    if before is None:
        parent.text = (parent.text or "") + text
    else:
        before.tail = (before.tail or "") + text
    parent.remove(signature)
