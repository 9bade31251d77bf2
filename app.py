"""The command line: ``python app.py -t TASK``; see ``--help`` or the README."""

from __future__ import annotations

import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs one task and returns its exit code: 0 for success, 1 for an error told in a sentence."""
    # jina publishes wheels for Python 3.11 at the latest, and this code needs what 3.11 brought.
    if sys.version_info[:2] != (3, 11):
        print(
            f"error: this needs Python 3.11, not {sys.version.split()[0]}: jina has no packages for others",
            file=sys.stderr,
        )
        return 1
    _open_standard_streams()
    from crossmodal.errors import CrossmodalError
    from crossmodal.settings import read_settings

    try:
        settings = read_settings(arguments)
        from crossmodal.cli import run_task

        code = run_task(settings)
        sys.stdout.flush()
        return code
    except CrossmodalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {error}; install with `pip install -r requirements.txt`", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; the interpreter would complain at exit otherwise.
        sys.stderr.close()
        return 1
    except OSError as error:
        # Output that cannot be written (a full disk), or a file that went away meanwhile.
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _open_standard_streams() -> None:
    """Makes nothing come of those that are closed (``2>&-``).

    Otherwise the next file opened, which may be the index, has their number, and libraries print into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the lowest number that is free, and stays open to the end.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
