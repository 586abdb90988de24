"""An OpenAI-compatible HTTP server: `python -m quire.serve MODEL`, docs/SERVING.md."""
