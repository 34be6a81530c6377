"""What readers of a row raise for a field that they cannot read."""


class BadField(Exception):
    """A problem of a row: the key `problem.<key>`, the field, and the parameters."""

    def __init__(self, key: str, where: str, **params: object) -> None:
        super().__init__(key)
        self.key = key
        self.params = {"field": where, **params}
