"""The tokenizer of a checkpoint, made from the bytes that its digest hashes."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from otr_core.encoding import tagged_hash, tagged_json_hash
from otr_core.errors import InputError, ModelError
from otr_node.template import ChatTemplate

_TOKEN_NAMES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
#: Settings of tokenizer models by which a text may be cut at random.
_CHANCE = ("dropout", "alpha", "nbest_size")


class ChatTokenizer:
    """Text to token ids and back, and the chat template around a prompt.

    Nothing but these arguments goes into it, and the two digests cover all of it.

    Args:
        tokenizer: bytes of ``tokenizer.json``. settings: the object in ``tokenizer_config.json``,
            of which the special tokens are used. template: Jinja text.

    Attributes:
        tokenizer_digest: H("tokenizer", {SHA-256 of ``tokenizer``, the special tokens}), 32 bytes.
        template_digest: H("chat-template", the Jinja text), 32 bytes.

    Raises:
        ModelError: something does not parse, cuts text at random, or names a special token that
            the tokenizer does not have.
    """

    def __init__(self, tokenizer: bytes, settings: Mapping[str, Any], template: str) -> None:
        from tokenizers import AddedToken, Tokenizer

        tokens = _special_tokens(settings)
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer)
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
        except BaseException as error:  # a panic of the library is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ModelError(f"tokenizer.json: not readable ({' '.join(str(error).split())[:200]})") from error
        for name in _CHANCE:
            if getattr(self._tokenizer.model, name, None):
                raise ModelError(f"tokenizer.json: its model has {name}, expected one that cuts a text in one way only")
        for text, number in {**dict.fromkeys(tokens.values()), **_added_tokens(settings)}.items():
            found = self._tokenizer.token_to_id(text)
            if found is None or number not in (None, found):
                raise ModelError(
                    f"tokenizer_config.json: found the token {text!r} with id {number}, expected the tokenizer's own "
                    f"({found}); write it into tokenizer.json"
                )
        # one that is a plain word of the vocabulary becomes special: it is never cut, and never shown
        special = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        missing = [text for text in dict.fromkeys(tokens.values()) if text not in special]
        self._tokenizer.add_special_tokens([AddedToken(text, special=True) for text in missing])
        self._template = ChatTemplate(template, tokens)
        hashed = {"tokenizer.json": hashlib.sha256(tokenizer).hexdigest(), "special_tokens": tokens}
        self.tokenizer_digest = tagged_json_hash("tokenizer", hashed)
        self.template_digest = tagged_hash("chat-template", template.encode("utf-8"))

    def prompt_ids(
        self, prompt: str | Sequence[Mapping[str, str]], *, date: datetime.date | None = None
    ) -> tuple[int, ...]:
        """Token ids of a prompt, up to where the answer begins.

        Args:
            prompt: the one user message, or the messages of a conversation (``ChatTemplate.render``).
            date: for templates that ask for today's date (``ChatTemplate.render``).

        Raises:
            ModelError: the template fails or gives nothing. InputError: text that is not Unicode.
        """
        ids = self.encode(self._template.render(prompt, date=date))
        if not ids:
            raise ModelError("chat template: gives no tokens, expected a prompt for the model")
        return ids

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, no special tokens around it.

        Raises:
            InputError: text that UTF-8 cannot carry (a lone surrogate).
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"text to tokenize: found a lone surrogate at {error.start}, expected Unicode") from error
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out; an id that no token has gives nothing.

        Raises:
            InputError: something that is no token id.
        """
        for token in ids:
            if type(token) is not int or not 0 <= token < 2**32:
                raise InputError(f"token id: found {token!r}, expected an integer below 2^32")
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return dict(self._tokenizer.get_vocab(with_added_tokens=True))


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that settings name, by the names that chat templates know."""
    result = {}
    for name in _TOKEN_NAMES:
        value = settings.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if text is not None:
            if not isinstance(text, str) or not text:
                raise ModelError(f"tokenizer_config.json: found {name} {str(value)[:60]}, expected a token's text")
            result[name] = text
    return result


def _added_tokens(settings: Mapping[str, Any]) -> dict[str, int]:
    """Tokens with their ids that settings repeat from ``tokenizer.json``."""
    entries = settings.get("added_tokens_decoder") or {}
    try:
        return {str(entry["content"]): int(number) for number, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError("tokenizer_config.json: added_tokens_decoder is not readable") from error
