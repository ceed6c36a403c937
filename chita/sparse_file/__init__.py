"""The sparse file: safetensors with the zeros left out, checked and bounded (`docs/formats.md`)."""
