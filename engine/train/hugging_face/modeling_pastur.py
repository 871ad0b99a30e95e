"""Pastur's attention variants for Hugging Face transformers, in plain PyTorch.

Pastur copies this file next to the weights of models that no class of transformers describes. config.json names it in
`auto_map`, so `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` loads them. There is no cache of
keys and values: generation runs the whole sequence again for each token.

Shapes: B batch, T time, H heads, D head width. Positions are [B, T] and count the tokens that are not padding.
"""

import math

import torch
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

# These do not follow rms_norm_eps: they are the constants of DeepSeek's latent norms and of MTLA's.
LATENT_EPS, TEMPORAL_EPS = 1e-6, 1e-5


class PasturConfig(PretrainedConfig):
    """`attention` holds the section [attention] of Pastur's recipe."""

    model_type = "pastur"

    def __init__(self, vocab_size=2048, hidden_size=128, intermediate_size=344, num_hidden_layers=4,
                 num_attention_heads=4, num_key_value_heads=None, head_dim=None, max_position_embeddings=256,
                 rms_norm_eps=1e-6, rope_theta=10000.0, initializer_range=0.02, attention=None, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        self.rope_theta = rope_theta
        self.initializer_range = initializer_range
        self.attention = attention or {"variant": "mha"}
        super().__init__(**kwargs)


class RmsNorm(nn.Module):
    def __init__(self, width, eps, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps, self.gain = eps, gain

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.gain * wide).to(x.dtype) * self.weight


def linear(inputs, outputs, bias=False):
    return nn.Linear(inputs, outputs, bias=bias)


def rotate(x, positions, base):
    """Rotates the pairs (i, i + D/2) of x [B, T, heads, D] at position t by t base^(-2i/D)."""
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angles = (positions.double()[:, :, None, None] * frequencies)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Attention(nn.Module):
    """Subclasses make queries, keys [B, T, H, Dqk] and values [B, T, H, Dv], positions included."""

    def __init__(self, config):
        super().__init__()
        self.settings = settings = config.attention
        self.width, self.heads, self.head_dim = config.hidden_size, config.num_attention_heads, config.head_dim
        self.kv_heads, self.eps, self.base = config.num_key_value_heads, config.rms_norm_eps, config.rope_theta
        self.rotates = not settings["variant"].endswith("-nope")
        self.stride = settings["stride"] if settings["variant"] == "mtla" else 1

    def latent_norm(self, rank, eps):
        if not self.settings["latent_norm"]:
            return nn.Identity()
        return RmsNorm(rank, eps, math.sqrt(self.width / rank) if self.settings["latent_gain"] == "sqrt" else 1.0)

    def add_head_norms(self, **widths):
        for name, width in widths.items():
            setattr(self, name, RmsNorm(width, self.eps) if self.settings["qk_norm"] == "head" else nn.Identity())

    def rotate(self, x, positions):
        return rotate(x, positions, self.base) if self.rotates else x

    def forward(self, x, positions, valid):
        q, k, v = self.queries_keys_values(x, positions, valid)
        group = self.heads // k.shape[2]
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
        scores = torch.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
        visible = self.visible_keys(positions, valid)[:, None]
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype)
        return self.o_proj(torch.einsum("bhts,bshd->bthd", probabilities, v).flatten(2))

    def visible_keys(self, positions, valid):
        """[B, query, key]: earlier keys that are not padding. With a stride only the last of a chunk and the query's own."""
        time = positions.shape[1]
        own = torch.eye(time, dtype=torch.bool, device=positions.device)
        earlier = torch.ones_like(own).tril()
        return own | (earlier & (valid & ((positions + 1) % self.stride == 0))[:, None])


class MultiHeadAttention(Attention):
    """`mha` and `mha-nope`."""

    def __init__(self, config):
        super().__init__(config)
        self.q_proj = linear(self.width, self.heads * self.head_dim)
        self.k_proj = linear(self.width, self.kv_heads * self.head_dim)
        self.v_proj = linear(self.width, self.kv_heads * self.head_dim)
        self.o_proj = linear(self.heads * self.head_dim, self.width)
        self.add_head_norms(q_norm=self.head_dim, k_norm=self.head_dim)

    def queries_keys_values(self, x, positions, valid):
        q, k, v = (proj(x).unflatten(-1, (-1, self.head_dim)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        return self.rotate(self.q_norm(q), positions), self.rotate(self.k_norm(k), positions), v


class SplitHeads(Attention):
    """Heads with a content part of their own and a rotary part whose key all heads share."""

    def __init__(self, config):
        super().__init__(config)
        self.nope_dim, self.rope_dim = self.settings["nope_dim"], self.settings["rope_dim"]
        self.v_dim, self.qk_dim = self.settings["v_dim"], self.nope_dim + self.rope_dim
        self.o_proj = linear(self.heads * self.v_dim, self.width)
        self.add_head_norms(q_norm=self.nope_dim, q_rope_norm=self.rope_dim, k_norm=self.nope_dim,
                            k_rope_norm=self.rope_dim)

    def join(self, q, k_content, k_rope, positions):
        """q [B, T, H qk_dim], k_content [B, T, H, nope_dim], k_rope [B, T, rope_dim] -> whole queries and keys."""
        q_content, q_rope = q.unflatten(-1, (self.heads, -1)).split([self.nope_dim, self.rope_dim], dim=-1)
        q_rope = self.rotate(self.q_rope_norm(q_rope), positions)
        k_rope = self.rotate(self.k_rope_norm(k_rope.unsqueeze(2)), positions).expand(-1, -1, self.heads, -1)
        return torch.cat([self.q_norm(q_content), q_rope], dim=-1), torch.cat([self.k_norm(k_content), k_rope], dim=-1)


class SharedRopeAttention(SplitHeads):
    """`mha-shared-rope`."""

    def __init__(self, config):
        super().__init__(config)
        self.q_proj = linear(self.width, self.heads * self.qk_dim)
        self.k_proj = linear(self.width, self.heads * self.nope_dim)
        self.k_rope_proj = linear(self.width, self.rope_dim)
        self.v_proj = linear(self.width, self.heads * self.v_dim)

    def queries_keys_values(self, x, positions, valid):
        k, v = (proj(x).unflatten(-1, (self.heads, -1)) for proj in (self.k_proj, self.v_proj))
        return *self.join(self.q_proj(x), k, self.k_rope_proj(x), positions), v


class LatentQueries:
    """Queries from x, through a latent if q_rank says so."""

    def add_queries(self, width):
        rank = self.settings["q_rank"]
        if rank:
            self.q_a_proj, self.q_b_proj = linear(self.width, rank), linear(rank, width)
            self.q_a_layernorm = self.latent_norm(rank, LATENT_EPS)
        else:
            self.q_proj = linear(self.width, width)

    def queries(self, x):
        if self.settings["q_rank"]:
            return self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        return self.q_proj(x)


class LatentAttention(LatentQueries, Attention):
    """`mla-rope` and `mla-nope`: keys are rotated after decompression, or not at all."""

    def __init__(self, config):
        super().__init__(config)
        rank, self.v_dim = self.settings["kv_rank"], self.settings["v_dim"]
        self.add_queries(self.heads * self.head_dim)
        self.kv_a_proj_with_mqa = linear(self.width, rank)
        self.kv_a_layernorm = self.latent_norm(rank, LATENT_EPS)
        self.kv_b_proj = linear(rank, self.heads * (self.head_dim + self.v_dim))
        self.o_proj = linear(self.heads * self.v_dim, self.width)
        self.add_head_norms(q_norm=self.head_dim, k_norm=self.head_dim)

    def queries_keys_values(self, x, positions, valid):
        q = self.queries(x).unflatten(-1, (self.heads, -1))
        kv = self.kv_b_proj(self.kv_a_layernorm(self.kv_a_proj_with_mqa(x))).unflatten(-1, (self.heads, -1))
        k, v = kv.split([self.head_dim, self.v_dim], dim=-1)
        return self.rotate(self.q_norm(q), positions), self.rotate(self.k_norm(k), positions), v


class DecoupledAttention(LatentQueries, SplitHeads):
    """`mla-decoupled`, with switches that DeepseekV3ForCausalLM does not have."""

    def __init__(self, config):
        super().__init__(config)
        rank = self.settings["kv_rank"]
        self.add_queries(self.heads * self.qk_dim)
        self.kv_a_proj_with_mqa = linear(self.width, rank + self.rope_dim)
        self.kv_a_layernorm = self.latent_norm(rank, LATENT_EPS)
        self.kv_b_proj = linear(rank, self.heads * (self.nope_dim + self.v_dim))

    def queries_keys_values(self, x, positions, valid):
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.settings["kv_rank"], self.rope_dim], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.heads, -1))
        k, v = kv.split([self.nope_dim, self.v_dim], dim=-1)
        return *self.join(self.queries(x), k, k_rope, positions), v


class PreRopeAttention(Attention):
    """`mla-prerope`: the rotated keys (prerope_site "keys") or the rotated input ("input") are compressed."""

    def __init__(self, config):
        super().__init__(config)
        inner, self.of_input = self.heads * self.head_dim, self.settings["prerope_site"] == "input"
        self.q_proj, self.o_proj = linear(self.width, inner), linear(inner, self.width)
        k_rank, v_rank = (self.settings["kv_rank"],) * 2 if self.of_input else (
            self.settings["k_rank"], self.settings["v_rank"])
        self.k_b_proj, self.v_b_proj = linear(k_rank, inner), linear(v_rank, inner)
        norm = lambda rank: self.latent_norm(rank, self.eps)
        if self.of_input:
            self.kv_a_proj, self.kv_a_layernorm = linear(self.width, k_rank), norm(k_rank)
            self.q_norm = nn.Identity()
        else:
            self.k_proj, self.k_a_proj, self.v_a_proj = (
                linear(self.width, inner), linear(inner, k_rank), linear(self.width, v_rank))
            self.k_a_layernorm, self.v_a_layernorm = norm(k_rank), norm(v_rank)
            self.add_head_norms(q_norm=self.head_dim, k_norm=self.head_dim)

    def queries_keys_values(self, x, positions, valid):
        by_head = lambda wide: wide.unflatten(-1, (self.heads, self.head_dim))
        q = self.rotate(self.q_norm(by_head(self.q_proj(x))), positions)
        if self.of_input:
            k_latent = v_latent = self.kv_a_layernorm(self.kv_a_proj(self.rotate(by_head(x), positions).flatten(2)))
        else:
            rotated = self.rotate(self.k_norm(by_head(self.k_proj(x))), positions).flatten(2)
            k_latent = self.k_a_layernorm(self.k_a_proj(rotated))
            v_latent = self.v_a_layernorm(self.v_a_proj(x))
        return q, by_head(self.k_b_proj(k_latent)), by_head(self.v_b_proj(v_latent))


class TemporalLatentAttention(SplitHeads):
    """`mtla`: gated latents are summed within chunks of `stride` tokens (arXiv 2505.13544)."""

    def __init__(self, config):
        super().__init__(config)
        rank = self.settings["kv_rank"]
        code = max(rank // 4, 1)
        self.q_proj = linear(self.width, self.heads * self.qk_dim)
        self.kv_a_proj_with_mqa = linear(self.width, rank + self.rope_dim)
        self.kv_a_layernorm = nn.LayerNorm(rank, eps=TEMPORAL_EPS)
        self.merge_latent_proj, self.merge_chunk_proj = linear(rank, code, bias=True), linear(rank, code, bias=True)
        self.kv_b_proj = linear(rank, self.heads * (self.nope_dim + self.v_dim))

    def chunk_positions(self, chunks, rank):
        """Sinusoidal embedding [B, T, rank] of the number of a token's chunk."""
        columns = torch.arange(rank, device=chunks.device)
        angles = chunks.double()[:, :, None] * 10000.0 ** (-2.0 * (columns // 2).double() / rank)
        return torch.where(columns % 2 == 0, angles.sin(), angles.cos())

    def queries_keys_values(self, x, positions, valid):
        rank = self.settings["kv_rank"]
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([rank, self.rope_dim], dim=-1)
        latent, chunks = self.kv_a_layernorm(latent), positions // self.stride
        code = self.merge_chunk_proj(self.chunk_positions(chunks, rank).to(x.dtype))
        gate = torch.sigmoid((self.merge_latent_proj(latent) * code).sum(-1, keepdim=True))
        together = (chunks[:, :, None] == chunks[:, None]).tril() & valid[:, None]
        kv = self.kv_b_proj(together.to(x.dtype) @ (gate * latent)).unflatten(-1, (self.heads, -1))
        k, v = kv.split([self.nope_dim, self.v_dim], dim=-1)
        return *self.join(self.q_proj(x), k, k_rope, positions), v


ATTENTION = {"mha": MultiHeadAttention, "mha-nope": MultiHeadAttention, "mha-shared-rope": SharedRopeAttention,
             "mla-rope": LatentAttention, "mla-nope": LatentAttention, "mla-decoupled": DecoupledAttention,
             "mla-prerope": PreRopeAttention, "mtla": TemporalLatentAttention}


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = linear(config.hidden_size, config.intermediate_size)
        self.up_proj = linear(config.hidden_size, config.intermediate_size)
        self.down_proj = linear(config.intermediate_size, config.hidden_size)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn, self.mlp = ATTENTION[config.attention["variant"]](config), Mlp(config)
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, positions, valid):
        x = x + self.self_attn(self.input_layernorm(x), positions, valid)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, input_ids, attention_mask=None):
        valid = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = (valid.long().cumsum(-1) - 1).clamp(min=0)
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, positions, valid.bool())
        return self.norm(x)


class PasturForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = PasturConfig
    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = Body(config)
        self.lm_head = linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        logits = self.lm_head(self.model(input_ids, attention_mask))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
