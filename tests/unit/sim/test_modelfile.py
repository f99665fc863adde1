from __future__ import annotations

import pytest

from ollamad.sim.modelfile import BadModelfile, BadParameter, parse_modelfile

WHOLE = '''\
# a comment
FROM llama3.2:1b
SYSTEM """be brief,
and kind"""
TEMPLATE "{{ .Prompt }}"

parameter temperature 0.5
PARAMETER num_ctx 4096
PARAMETER stop a
PARAMETER stop "b c"
MESSAGE user hello there
LICENSE free
'''


def test_a_modelfile_is_read_command_by_command() -> None:
    recipe = parse_modelfile(WHOLE)
    assert recipe.origin == "llama3.2:1b"
    assert recipe.texts == {"system": "be brief,\nand kind", "template": "{{ .Prompt }}", "license": "free"}
    assert recipe.parameters == {"temperature": 0.5, "num_ctx": 4096, "stop": ["a", "b c"]}
    assert recipe.messages == [{"role": "user", "content": "hello there"}]


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("SYSTEM x", BadModelfile, "no FROM line"),
        ("nonsense", BadModelfile, "unexpected EOF"),
        ("MAKE x", BadModelfile, "command must be one of"),
        ("FROM a\nPARAMETER nosuch 3", BadParameter, "unknown parameter 'nosuch'"),
        ("FROM a\nPARAMETER num_ctx x", BadParameter, r"invalid int value \[x\]"),
        ("FROM a\nPARAMETER temperature x", BadParameter, r"invalid float value \[x\]"),
    ],
)
def test_what_is_wrong_with_it_is_told(text: str, kind: type[ValueError], why: str) -> None:
    with pytest.raises(kind, match=why):
        parse_modelfile(text)
