# SPDX-License-Identifier: MIT
"""dune-sandbox: what a policy allows, denies, asks about and makes known, and what is no policy."""

from __future__ import annotations

import shlex

import pytest
from guest_shell import Plain, Shell

pytestmark = pytest.mark.guest_group("sandbox")

POLICY = """
[calls]
getpriority = "deny EINVAL"
sync = "kill"

[[file]]
path = "/tmp/shell/secret"
deny = ["read", "write", "exec"]

[[file]]
path = "/tmp/shell/**"
allow = ["read", "write"]

[[file]]
path = "/tmp/shell/**"
deny = ["exec"]

[[file]]
path = "/**"
allow = ["read", "exec"]

[[net]]
family = "inet"
address = "127.0.0.0/8"
port = 80
allow = ["connect"]

[limits]
files = 40
"""


def under(policy: str, text: str) -> str:
    """Shell text that writes a policy and runs text under it."""
    return (
        f"cat >policy <<'END'\n{policy}\nEND\necho s3cret >secret; echo plain >open\n"
        f"ln -s secret link; mkdir d; "
        f"dune-sandbox --policy policy sh -c '{text}'"
    )


@pytest.mark.parametrize(
    ("text", "status", "stdout", "stderr"),
    [
        ("cat open; echo x >new; cat new", 0, "plain\nx\n", ""),
        ("cat secret", 1, "", "reading /tmp/shell/secret: denied by policy:6"),
        ("cat link", 1, "", "reading /tmp/shell/secret: denied by policy:6"),
        ("cat d/../secret", 1, "", "secret: denied by policy:6"),
        ("cat /tmp/shell//./secret", 1, "", "secret: denied by policy:6"),
        ("cd d; cat ../secret", 1, "", "secret: denied by policy:6"),
        ("mv secret other; cat other", 1, "", "writing /tmp/shell/secret: denied by policy:6"),
        ("ln secret other; cat other", 1, "", "secret: denied by policy:6"),
        ("ln -s secret l2; cat l2", 1, "", "secret: denied by policy:6"),
        ("unlink secret; exit 9", 9, "", "writing /tmp/shell/secret: denied by policy:6"),
        ("echo x >/etc/new", 1, "", "writing /etc/new: denied, for no rule of policy names it"),
        ("cp /bin/busybox b; ./b true", 126, "", "executing"),
        ("sync", 159, "", "system call sync: killed by policy:4"),
        (
            "wget -q http://10.0.2.2/ -O /dev/null || exit 8",
            8,
            "",
            "connecting to an inet address: denied",
        ),
        ("seq 100 | xargs -n 1 echo | tail -n 1", 0, "100\n", ""),
        ("ulimit -n; ulimit -Hn 4096 || exit 5", 5, "40\n", ""),
    ],
)
def test_policy(shell: Shell, text: str, status: int, stdout: str, stderr: str) -> None:
    done = shell(under(POLICY, text))
    assert (done.status, done.stdout) == (status, stdout), done.stderr
    assert stderr in done.stderr


def test_default_policy(shell: Shell) -> None:
    """A read-only system, a /tmp of its own, no network."""
    done = shell(
        "dune-sandbox sh -c 'echo a >/tmp/x; cat /tmp/x /etc/hostname >/dev/null; "
        "echo b >/etc/x; rm /etc/passwd; wget -q http://10.0.2.2/; test -e /etc/passwd'"
    )
    assert done.status == 0
    for what in ("writing /etc/x: denied", "writing /etc/passwd: denied", "socket of a family"):
        assert what in done.stderr


@pytest.mark.parametrize(("user", "uid"), [("root", 0), ("nobody", 65534)])
def test_private_tmp(shell: Shell, user: str, uid: int) -> None:
    """What is in /tmp inside is not there outside, and the reverse, by any name.

    An ordinary user has it by a namespace, and no capability in it.
    """
    inside = (
        "pwd; b=/bin/busybox; $b ls -A /tmp; $b cat secret /tmp/shell/secret "
        "/proc/1/root/tmp/shell/secret /proc/1/cwd/tmp/shell/secret; echo in >/tmp/sandbox.x; "
        "$b cat /tmp/sandbox.x; $b id -u; $b grep -c '^Cap[A-Z][a-z]*:.0*$' /proc/self/status; "
        "$b umount /tmp"
    )
    done = shell(
        f"chmod 755 . && echo outside >secret && export INSIDE={shlex.quote(inside)} && "
        f"su -s /bin/sh {user} -c 'dune-sandbox sh -c \"$INSIDE\"'; test -e /tmp/sandbox.x || "
        "echo gone; cat secret"
    )
    # Inheritable, permitted, effective, bounding, ambient: those that are empty.
    empty = 2 if user == "root" else 5
    expected = ["/tmp", "in", str(uid), str(empty), "gone", "outside"]  # noqa: S108
    assert done.stdout.splitlines() == expected, done.stderr
    assert "umount2 was refused" in done.stderr


def test_private_tmp_can_be_left_out(shell: Shell) -> None:
    text = (
        'printf \'[[file]]\npath = "/**"\nallow = ["read", "write", "exec"]\n'
        "[tmp]\nprivate = %s\n' {} >p; dune-sandbox --policy p sh -c 'test -e /tmp/shell/p'"
    )
    assert shell(text.format("false")).status == 0
    assert shell(text.format("true")).status == 1


def test_private_tmp_that_the_kernel_forbids(shell: Shell) -> None:
    limit = "/proc/sys/user/max_user_namespaces"
    done = shell(
        f"old=$(cat {limit}); echo 0 >{limit}; su -s /bin/sh nobody -c 'dune-sandbox true'; "
        f"status=$?; echo $old >{limit}; exit $status"
    )
    assert done.status == 125
    assert "the default policy:25: a private /tmp: unshare: No space left" in done.stderr


# -- the network -------------------------------------------------------------------------

NET = """
[[net]]
family = "inet"
address = "127.0.0.0/8"
port = 80
allow = ["connect"]

[[net]]
family = "inet6"
address = "::1"
allow = ["connect", "bind"]

[[net]]
family = "unix"
address = "/tmp/shell/ok*"
allow = ["connect", "bind"]

[network]
default = "deny"
"""

# No IPv4 loopback, whatever it is called, and no servers for it; all else.
NO_LOOPBACK = """
[[net]]
family = "inet"
address = "127.0.0.0/8"
deny = ["connect"]

[[net]]
family = "inet6"
address = "::1"
deny = ["connect"]

[[net]]
family = "inet"
deny = ["bind"]

[network]
default = "allow"
"""

REFUSED = "Connection refused"  # by Linux: nobody listens there
DENIED = "Permission denied"

NETWORK = (
    (NET, "connect inet 127.0.0.1 80", REFUSED),
    (NET, "connect inet 127.9.9.9 80", REFUSED),
    (NET, "connect inet 127.0.0.1 81", DENIED),
    (NET, "connect inet 128.0.0.1 80", DENIED),
    (NET, "connect inet 0.0.0.0 80", REFUSED),
    (NET, "connect inet 0.0.0.0 81", DENIED),
    (NET, "connect inet6 ::ffff:127.0.0.1 80", REFUSED),
    (NET, "connect inet6 ::ffff:127.0.0.1 81", DENIED),
    (NET, "connect inet6 ::ffff:10.0.2.2 80", DENIED),
    (NET, "connect inet6 ::127.0.0.1 80", DENIED),
    (NET, "connect inet6 ::1 9", REFUSED),
    (NET, "connect inet6 ::2 9", DENIED),
    (NET, "connect inet6 :: 9", REFUSED),
    (NET, "sendto inet 127.0.0.1 80", "done"),
    (NET, "sendto inet 127.0.0.1 81", DENIED),
    (NET, "sendto inet6 ::ffff:127.0.0.1 80", "done"),
    (NET, "sendto inet6 ::ffff:127.0.0.1 81", DENIED),
    (NET, "sendmsg inet6 ::ffff:127.0.0.1 80", "done"),
    (NET, "sendmsg inet6 ::ffff:127.0.0.1 81", DENIED),
    (NET, "sendmmsg inet6 ::ffff:127.0.0.1 80", "done"),
    (NET, "sendmmsg inet6 ::ffff:127.0.0.1 81", DENIED),
    (NET, "sendto unspec 127.0.0.1 80", "done"),
    (NET, "sendto unspec 127.0.0.1 81", DENIED),
    (NET, "sendmsg unspec 127.0.0.1 81", DENIED),
    (NET, "bind inet 127.0.0.1 80", DENIED),
    (NET, "bind inet6 ::ffff:127.0.0.1 80", DENIED),
    (NET, "bind inet6 ::1 4000", "done"),
    (NET, "bind inet6 :: 4000", DENIED),
    (NET, "bind unspec 0.0.0.0 4000", DENIED),
    (NET, "listen inet 0.0.0.0 0", DENIED),
    (NET, "connect netlink 0.0.0.0 0", f"socket: {DENIED}"),
    (NET, "connect packet 0.0.0.0 0", f"socket: {DENIED}"),
    (NET, "bind unix /tmp/shell/ok1 0", "done"),
    (NET, "bind unix /tmp/shell/no 0", DENIED),
    (NET, "bind unix @ok 0", DENIED),
    (NET, "connect unix /tmp/shell/ok2 0", "No such file or directory"),
    (NET, "connect unix /tmp/shell/oklink 0", DENIED),
    (NO_LOOPBACK, "connect inet 127.0.0.1 80", DENIED),
    (NO_LOOPBACK, "connect inet6 ::ffff:127.0.0.1 80", DENIED),
    (NO_LOOPBACK, "connect inet 0.0.0.0 80", DENIED),
    (NO_LOOPBACK, "connect inet6 ::ffff:0.0.0.0 80", DENIED),
    (NO_LOOPBACK, "connect inet6 ::1 80", DENIED),
    (NO_LOOPBACK, "connect inet6 :: 80", DENIED),
    (NO_LOOPBACK, "sendto unspec 127.0.0.1 80", DENIED),
    (NO_LOOPBACK, "bind unspec 0.0.0.0 4000", DENIED),
    (NO_LOOPBACK, "bind inet6 ::ffff:0.0.0.0 4000", DENIED),
    (NO_LOOPBACK, "listen inet 0.0.0.0 0", DENIED),
    (NO_LOOPBACK, "listen inet6 :: 0", DENIED),
    (NO_LOOPBACK, "bind inet6 :: 4000", DENIED),
    (NO_LOOPBACK, "bind inet6 ::1 4000", "done"),
)


@pytest.mark.thorough
def test_network(shell: Shell, plain: Plain) -> None:
    """Each address by the rule that it falls under, and what Linux does with the others."""
    run = f"dune-sandbox --quiet --policy $1 {plain('sandbox_net')}"
    text = [
        f"ip link set lo up; cat >net <<'END'\n{NET}\nEND\ncat >no_loopback <<'END'\n"
        f"{NO_LOOPBACK}\nEND\ntry() {{ rm -f ok* no; : >no; ln -s no oklink; "
        f'{run} "$2" "$3" "$4" "$5" 2>&1; }}'
    ]
    for policy, words, _ in NETWORK:
        text.append(f"try {'net' if policy is NET else 'no_loopback'} {words}")
    done = shell("\n".join(text), seconds=300)
    found = list(zip((words for _, words, _ in NETWORK), done.stdout.splitlines(), strict=True))
    assert found == [(words, said) for _, words, said in NETWORK]


# -- asking ------------------------------------------------------------------------------

ASK = """
[[file]]
path = "/tmp/shell/asked/**"
ask = ["read"]

[[file]]
path = "/**"
allow = ["read", "write", "exec"]

[calls]
sync = "ask"
"""


def asking(command: str) -> str:
    """Shell text that runs a command beside ASK and a file that is asked about."""
    return f"cat >p <<'END'\n{ASK}\nEND\nmkdir asked; echo text >asked/a; {command}"


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("allow", 0, "reading /tmp/shell/asked/a: asked, and allowed by p:2"),
        ("deny", 1, "reading /tmp/shell/asked/a: asked, and denied by p:2"),
        # Nobody is there: a guest's commands have no terminal.
        ("terminal", 1, "reading /tmp/shell/asked/a: asked, and denied by p:2"),
    ],
)
def test_ask(shell: Shell, how: str, status: int, said: str) -> None:
    done = shell(asking(f"dune-sandbox --ask {how} --policy p cat asked/a"))
    assert (done.status, done.stdout) == (status, "" if status else "text\n"), done.stderr
    assert said in done.stderr


def test_ask_about_a_call(shell: Shell) -> None:
    done = shell(asking("dune-sandbox --ask deny --policy p sync"))
    assert "system call sync: asked, and denied by p:11" in done.stderr


@pytest.mark.parametrize(("typed", "status"), [("number", 0), ("y", 1)])
def test_ask_on_a_terminal(shell: Shell, plain: Plain, typed: str, status: int) -> None:
    """The number in the question allows, and nothing else does."""
    done = shell(asking(f"{plain('sandbox_tty')} {typed} dune-sandbox --policy p cat asked/a"))
    assert done.status == status, done.stdout
    assert "wants to read /tmp/shell/asked/a (p:2)" in done.stdout
    assert ("\ntext" in done.stdout) == (status == 0)


def test_learn(shell: Shell) -> None:
    """What a run did is allowed by the policy that it makes, and nothing else is."""
    program = "sh -c 'cat in; echo b >out; cat out'"
    done = shell(
        f"echo a >in; touch other; dune-sandbox --learn p {program}; rm out; cat p >&2; "
        f"dune-sandbox --policy p {program}; "
        "dune-sandbox --policy p sh -c 'cat other; echo x >in'"
    )
    assert done.stdout == "a\nb\na\nb\n", done.stderr
    assert 'path = "/tmp/shell/in"\nbelow = false\nallow = ["read"]' in done.stderr
    assert "reading /tmp/shell/other: denied" in done.stderr
    assert "writing /tmp/shell/in: denied" in done.stderr
    assert 'path = "/proc/self/exe"' in done.stderr
    assert "reading /proc/" not in done.stderr


def test_explain(shell: Shell) -> None:
    done = shell(under(POLICY, "cat open").replace("--policy", "--explain --policy"))
    assert "reading /tmp/shell/open: allowed by policy:10" in done.stderr


# Text, and what is said about which line of it.
WRONG = (
    ('[calls]\nnosuch = "allow"', 2, "no such system call"),
    ('[calls]\nread = "maybe"', 2, "a verdict is allow, ask, log, kill, deny"),
    ("[nosuch]", 1, "a table that is not known"),
    ('\n\n[[file]]\npath = "tmp"', 4, "a path begins with /"),
    ('[[file]]\nallow = ["read"]\n\n[limits]', 4, "the rule before has no path"),
    ('[[file]]\npath = "/a"\nallow = ["fly"]', 3, "a right that is not known"),
    ('[[net]]\nfamily = "inet"\naddress = "1.2.3"', 3, "no address of this family"),
    ('[limits]\nmemory = "1T"', 2, "a size is a number"),
    ('[calls]\nread = "deny', 2, "the string does not end in its line"),
    ('[calls]\nread = "deny" x', 2, "something behind the value"),
    ("[tmp]\nprivate = true", 2, "a private /tmp needs rules for files"),
    ("[tmp]\nsize = 1", 2, "only private = true or false stands in [tmp]"),
    ("[tmp]\n[tmp]", 2, "the table is there already"),
    ("x = 1", 1, "a key before the first table"),
)


@pytest.mark.parametrize(("text", "line", "message"), WRONG, ids=[said for _, _, said in WRONG])
def test_policy_errors(shell: Shell, text: str, line: int, message: str) -> None:
    done = shell(f"cat >p <<'END'\n{text}\nEND\ndune-sandbox --check p")
    assert done.status == 125
    assert f"dune-sandbox: p:{line}: {message}" in done.stderr
