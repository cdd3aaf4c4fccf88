"""What of a command line may be seen, and that all of it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.secret import MASK
from butter_trio.hidden import SECRET_OPTIONS, hide, restore

SIGNS = "ws:/@?#*=a\n -"
arguments = st.one_of(
    st.sampled_from([*SECRET_OPTIONS, MASK, "--", "--token=***", "ws://***@h?***", ""]),
    st.text(SIGNS, max_size=12),
    st.text(SIGNS, max_size=12).map("ws://{}".format),
    st.text(SIGNS, max_size=12).map("--token={}".format),
    st.text(SIGNS, max_size=12).map("--gateway= ws://{}".format),
)


@pytest.mark.parametrize(
    ("line", "visible", "secrets"),
    [
        (["check"], ["check"], []),
        *[(["check", option, "a"], ["check", option, "***"], ["a"]) for option in SECRET_OPTIONS],
        (["check", "--token=a=b"], ["check", "--token=***"], ["a=b"]),
        (["--header", "--token", "x"], ["--header", "***", "x"], ["--token"]),
        (
            ["--token", "a", "--header", "b", "--header", "c"],
            ["--token", "***", "--header", "***", "--header", "***"],
            ["a", "b", "c"],
        ),
        (["ws://h:1/p?x=1&token=a"], ["ws://h:1/p?***"], ["x=1&token=a"]),
        (["WSS://me:a@h/?b"], ["WSS://***@h/?***"], ["me:a", "b"]),
        (["ws://me:a?b@h"], ["ws://***@h"], ["me:a?b"]),
        (["ws://h:x/?token=a"], ["ws://h:x/?***"], ["token=a"]),
        (["--gateway=ws://h/?token=a"], ["--gateway=ws://h/?***"], ["token=a"]),
        (["--gateway", "ws://h/?token=a"], ["--gateway", "ws://h/?***"], ["token=a"]),
        ([" \tws://h/?token=a"], [" \tws://h/?***"], ["token=a"]),
        (["ws://h/#token=a"], ["ws://h/#***"], ["token=a"]),
        (["http://h/?token=a"], ["http://h/?***"], ["token=a"]),
        (["https://h/?a#b"], ["https://h/?***"], ["a#b"]),
        (["ws://h:1", "--token"], ["ws://h:1", "--token"], []),
    ],
)
def test_a_command_line_is_split_into_what_may_be_seen_and_the_secrets(
    line: list[str], visible: list[str], secrets: list[str]
) -> None:
    assert hide(line) == (visible, secrets)
    assert restore(visible, secrets) == line


@given(st.lists(arguments, max_size=8))
def test_restoring_what_was_hidden_gives_the_same_command_line(line: list[str]) -> None:
    visible, secrets = hide(line)
    assert restore(visible, secrets) == line
    assert hide(visible)[0] == visible


@pytest.mark.parametrize("secrets", [[], ["a", "b"]])
def test_the_secrets_of_another_command_line_are_not_put_in(secrets: list[str]) -> None:
    assert restore(["--token", MASK], secrets) is None
