"""Terraform's language: what is written is what `terraform fmt` would write."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.render.hcl import Block, Json, Raw, write

QUEUE = Block(
    "resource",
    ("aws_sqs_queue", "interruption"),
    {
        "name": "atelier",
        "message_retention_seconds": 300,
        "sqs_managed_sse_enabled": True,
        "kms_master_key_id": None,
        "policy": Json(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": Raw("aws_sqs_queue.a.arn")}]}
        ),
        "tags": {"Project": "atelier", "cost center": "${var.center}"},
        "names": [],
        "depends_on": [Raw("aws_iam_role.a"), Raw("aws_iam_role.b")],
    },
    [Block("timeouts", (), {"create": "5m"}), Block("lifecycle")],
)

WRITTEN = """\
resource "aws_sqs_queue" "interruption" {
  name                      = "atelier"
  message_retention_seconds = 300
  sqs_managed_sse_enabled   = true
  kms_master_key_id         = null
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Resource = aws_sqs_queue.a.arn
      },
    ]
  })
  tags = {
    Project       = "atelier"
    "cost center" = "${var.center}"
  }
  names      = []
  depends_on = [aws_iam_role.a, aws_iam_role.b]

  timeouts {
    create = "5m"
  }

  lifecycle {}
}
"""


def test_a_block_as_fmt_writes_it() -> None:
    assert write(QUEUE) == WRITTEN


def test_text_is_quoted() -> None:
    block = Block("locals", (), {"a": 'say "hi"\n\ttwice \\ more'})
    assert write(block) == 'locals {\n  a = "say \\"hi\\"\\n\\ttwice \\\\ more"\n}\n'


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(TypeError, match="set is no value of Terraform's"):
        write(Block("locals", (), {"a": {1, 2}}))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text('abc "\\\n\t-_./', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc -", min_size=1, max_size=9), inner, max_size=3)
    ),
    max_leaves=12,
)
attributes = st.dictionaries(
    st.text("abcde_", min_size=1, max_size=9).filter(lambda key: key[0] != "_"), values, max_size=6
)


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on PATH")
@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(attributes, st.lists(attributes, max_size=2)), min_size=6, max_size=12))
def test_fmt_changes_nothing(blocks: list[tuple[dict[str, object], list[dict[str, object]]]]) -> None:
    made = [
        Block("resource", ("aws_thing", f"r{number}"), outer, [Block("inner", (), each) for each in inner])
        for number, (outer, inner) in enumerate(blocks)
    ]
    text = "\n".join(write(each) for each in made)
    done = subprocess.run(["terraform", "fmt", "-"], input=text, capture_output=True, text=True, check=True)
    assert done.stdout == text
