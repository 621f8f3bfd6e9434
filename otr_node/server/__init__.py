"""An OpenAI-compatible server whose answers carry receipts (docs/serving.md)."""
