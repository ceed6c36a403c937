"""The sparse file: tensors with their zeros left out, checked and bounded (`docs/formats.md`)."""
