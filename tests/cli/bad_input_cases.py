"""What bad_input.py runs: cases are added where they are written down."""

CASES = []


def case(name, arguments, *pieces, files=None, change=None, code=2):
    """`files`: {path: bytes, text or (for a folder) None} put beside the fixtures before the run; `change`: a function
    of the folder that does more."""
    CASES.append((name, arguments, pieces, files or {}, change, code))


def edit(path, function):
    """A change of one file of the run."""
    def change(folder):
        file = folder / path
        content = function(file.read_bytes()) if file.exists() else function(b"")
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
    return change


def gone(_):
    return None
