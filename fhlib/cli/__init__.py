"""The commands of `python -m fhlib`, but for `segment`, which stands in `fhlib.__main__`.

Arguments are looked at before torch is imported: what cannot be met is refused in a second.
"""
