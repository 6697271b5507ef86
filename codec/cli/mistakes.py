"""What commands make of mistakes: a line for each, and exit code 2."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import click

from codec.errors import CodecError, trouble


@contextmanager
def told_in_lines():
    """Whatever a user, a file or a disk got wrong is ``error: ...`` and exit code 2; other exceptions are our bugs."""
    try:
        yield
    except CodecError as e:
        fail(*e.lines)
    except click.exceptions.Abort:
        sys.exit(130)
    except getattr(click.exceptions, "NoArgsIsHelpError", ()) as e:
        e.show()
        sys.exit(e.exit_code)
    except click.ClickException as e:
        fail(e.format_message())
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except BrokenPipeError:
        sys.exit(2)
    except OSError as e:
        fail(trouble(e))
    except (MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "alloc" not in str(e) and "out of memory" not in str(e):
            raise
        fail("not enough memory")


def fail(*lines: str) -> None:
    for text in lines:
        print("error: " + " ".join(text.split()), file=sys.stderr)
    sys.exit(2)


def in_one_line(e: Exception) -> str:
    """What to say of a mistake of whatever kind in the midst of a batch."""
    if isinstance(e, CodecError):
        return str(e)
    words = " ".join(str(e).split())
    if isinstance(e, MemoryError) or (isinstance(e, RuntimeError) and ("alloc" in words or "out of memory" in words)):
        return "not enough memory for this picture"
    return f"unexpected {type(e).__name__}: {words}"[:300]
