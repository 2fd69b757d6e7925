"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """Bad input, told in one line: what is wrong, which file, how to mend it.

    The command line prints it without a traceback and exits with code 2; a caller of the library catches it
    like any other exception.
    """
