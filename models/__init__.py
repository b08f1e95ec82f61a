"""One bidirectional transformer for all model families, and reading their published checkpoints."""

from models.config import ModelConfig
from models.loading import load_model, resolve_checkpoint
from models.transformer import Forward, Transformer

__all__ = ["Forward", "ModelConfig", "Transformer", "load_model", "resolve_checkpoint"]
