"""The transformer layer of the W2V+CMSC+RLM encoder: BERT's, with the norms behind the sums.

Symbols: B batch, N tokens, D width, H heads.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be shared among {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        q, k, v = (self._by_head(layer(x)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        rate = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        out: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Attention, sum, norm; feed-forward, sum, norm (post-LN)."""

    def __init__(self, width: int, *, feedforward: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads=heads, dropout=dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, feedforward)
        self.fc2 = nn.Linear(feedforward, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x)))
        # No dropout between the two: the paper's activation dropout is 0 in pretraining.
        y = self.fc2(functional.gelu(self.fc1(x)))
        out: Tensor = self.final_layer_norm(x + self.dropout(y))
        return out
