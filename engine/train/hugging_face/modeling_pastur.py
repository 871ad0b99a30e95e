"""Pastur's attention variants for Hugging Face transformers, in plain PyTorch.

Pastur copies this file next to the weights of models that no class of transformers describes. config.json names it in
`auto_map`, so `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` loads them. Generation keeps what
Pastur's own cache holds, latents where there are some, in the two tensors per layer of transformers' DynamicCache; each
token decompresses all latents again.

Shapes: B batch, T time, S time with that of the cache, H heads, D head width. Positions are [B, S] and count the tokens
that are not padding.
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
    """project() of a subclass makes queries [B, T, H, Dqk] and two tensors to cache [B, T, width], positions included;
    expand() makes keys [B, S, H, Dqk] and values [B, S, H, Dv] of all that is cached."""

    def __init__(self, config, layer):
        super().__init__()
        self.layer = layer
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

    def forward(self, x, positions, valid, cache):
        q, *parts = self.project(x, positions[:, -x.shape[1]:])
        if cache is not None:  # its tensors are [B, heads, S, width]
            parts = (part[:, 0] for part in cache.update(*(part[:, None] for part in parts), self.layer))
        k, v = self.expand(*parts, positions, valid)
        group = self.heads // k.shape[2]
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
        scores = torch.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
        visible = self.visible_keys(positions, valid)[:, None, -q.shape[1]:]
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype)
        return self.o_proj(torch.einsum("bhts,bshd->bthd", probabilities, v).flatten(2))

    def visible_keys(self, positions, valid):
        """[B, query, key]: earlier keys that are not padding. With a stride only the last of a chunk and the query's own."""
        own = torch.eye(positions.shape[1], dtype=torch.bool, device=positions.device)
        earlier = torch.ones_like(own).tril()
        return own | (earlier & (valid & ((positions + 1) % self.stride == 0))[:, None])


class MultiHeadAttention(Attention):
    """`mha` and `mha-nope`."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.q_proj = linear(self.width, self.heads * self.head_dim)
        self.k_proj = linear(self.width, self.kv_heads * self.head_dim)
        self.v_proj = linear(self.width, self.kv_heads * self.head_dim)
        self.o_proj = linear(self.heads * self.head_dim, self.width)
        self.add_head_norms(q_norm=self.head_dim, k_norm=self.head_dim)

    def project(self, x, positions):
        q, k = (proj(x).unflatten(-1, (-1, self.head_dim)) for proj in (self.q_proj, self.k_proj))
        q, k = self.rotate(self.q_norm(q), positions), self.rotate(self.k_norm(k), positions)
        return q, k.flatten(2), self.v_proj(x)

    def expand(self, k, v, positions, valid):
        return (part.unflatten(-1, (-1, self.head_dim)) for part in (k, v))


class SplitHeads(Attention):
    """Heads with a content part of their own and a rotary part whose key all heads share."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.nope_dim, self.rope_dim = self.settings["nope_dim"], self.settings["rope_dim"]
        self.v_dim, self.qk_dim = self.settings["v_dim"], self.nope_dim + self.rope_dim
        self.o_proj = linear(self.heads * self.v_dim, self.width)
        self.add_head_norms(q_norm=self.nope_dim, q_rope_norm=self.rope_dim, k_norm=self.nope_dim,
                            k_rope_norm=self.rope_dim)

    def rotate_parts(self, q, k_rope, positions):
        """q [B, T, H qk_dim] as whole queries; k_rope [B, T, rope_dim]."""
        q_content, q_rope = q.unflatten(-1, (self.heads, -1)).split([self.nope_dim, self.rope_dim], dim=-1)
        q_rope = self.rotate(self.q_rope_norm(q_rope), positions)
        k_rope = self.rotate(self.k_rope_norm(k_rope.unsqueeze(2)), positions).flatten(2)
        return torch.cat([self.q_norm(q_content), q_rope], dim=-1), k_rope

    def join(self, k_content, k_rope):
        """k_content [B, S, H, nope_dim], k_rope [B, S, rope_dim], rotated -> whole keys."""
        return torch.cat([self.k_norm(k_content), k_rope.unsqueeze(2).expand(-1, -1, self.heads, -1)], dim=-1)

    def expand(self, latent, k_rope, positions, valid):
        kv = self.kv_b_proj(latent).unflatten(-1, (self.heads, -1))
        k, v = kv.split([self.nope_dim, self.v_dim], dim=-1)
        return self.join(k, k_rope), v


class SharedRopeAttention(SplitHeads):
    """`mha-shared-rope`."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.q_proj = linear(self.width, self.heads * self.qk_dim)
        self.k_proj = linear(self.width, self.heads * self.nope_dim)
        self.k_rope_proj = linear(self.width, self.rope_dim)
        self.v_proj = linear(self.width, self.heads * self.v_dim)

    def project(self, x, positions):
        q, k_rope = self.rotate_parts(self.q_proj(x), self.k_rope_proj(x), positions)
        return q, torch.cat([self.k_proj(x), k_rope], dim=-1), self.v_proj(x)

    def expand(self, k, v, positions, valid):
        k, k_rope = k.split([self.heads * self.nope_dim, self.rope_dim], dim=-1)
        return self.join(k.unflatten(-1, (self.heads, -1)), k_rope), v.unflatten(-1, (self.heads, -1))


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

    def __init__(self, config, layer):
        super().__init__(config, layer)
        rank, self.v_dim = self.settings["kv_rank"], self.settings["v_dim"]
        self.add_queries(self.heads * self.head_dim)
        self.kv_a_proj_with_mqa = linear(self.width, rank)
        self.kv_a_layernorm = self.latent_norm(rank, LATENT_EPS)
        self.kv_b_proj = linear(rank, self.heads * (self.head_dim + self.v_dim))
        self.o_proj = linear(self.heads * self.v_dim, self.width)
        self.add_head_norms(q_norm=self.head_dim, k_norm=self.head_dim)

    def project(self, x, positions):
        q = self.rotate(self.q_norm(self.queries(x).unflatten(-1, (self.heads, -1))), positions)
        latent = self.kv_a_layernorm(self.kv_a_proj_with_mqa(x))
        return q, latent, latent[..., :0]

    def expand(self, latent, _, positions, valid):
        kv = self.kv_b_proj(latent).unflatten(-1, (self.heads, -1))
        k, v = kv.split([self.head_dim, self.v_dim], dim=-1)
        return self.rotate(self.k_norm(k), positions), v


class DecoupledAttention(LatentQueries, SplitHeads):
    """`mla-decoupled`, with switches that DeepseekV3ForCausalLM does not have."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        rank = self.settings["kv_rank"]
        self.add_queries(self.heads * self.qk_dim)
        self.kv_a_proj_with_mqa = linear(self.width, rank + self.rope_dim)
        self.kv_a_layernorm = self.latent_norm(rank, LATENT_EPS)
        self.kv_b_proj = linear(rank, self.heads * (self.nope_dim + self.v_dim))

    def project(self, x, positions):
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.settings["kv_rank"], self.rope_dim], dim=-1)
        q, k_rope = self.rotate_parts(self.queries(x), k_rope, positions)
        return q, self.kv_a_layernorm(latent), k_rope


class PreRopeAttention(Attention):
    """`mla-prerope`: the rotated keys (prerope_site "keys") or the rotated input ("input") are compressed."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
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

    def project(self, x, positions):
        by_head = lambda wide: wide.unflatten(-1, (self.heads, self.head_dim))
        q = self.rotate(self.q_norm(by_head(self.q_proj(x))), positions)
        if self.of_input:
            latent = self.kv_a_layernorm(self.kv_a_proj(self.rotate(by_head(x), positions).flatten(2)))
            return q, latent, latent[..., :0]
        rotated = self.rotate(self.k_norm(by_head(self.k_proj(x))), positions).flatten(2)
        return q, self.k_a_layernorm(self.k_a_proj(rotated)), self.v_a_layernorm(self.v_a_proj(x))

    def expand(self, k_latent, v_latent, positions, valid):
        k, v = self.k_b_proj(k_latent), self.v_b_proj(k_latent if self.of_input else v_latent)
        return (part.unflatten(-1, (self.heads, self.head_dim)) for part in (k, v))


class TemporalLatentAttention(SplitHeads):
    """`mtla`: gated latents are summed within chunks of `stride` tokens (arXiv 2505.13544)."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
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

    def project(self, x, positions):
        rank = self.settings["kv_rank"]
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([rank, self.rope_dim], dim=-1)
        latent = self.kv_a_layernorm(latent)
        code = self.merge_chunk_proj(self.chunk_positions(positions // self.stride, rank).to(x.dtype))
        gate = torch.sigmoid((self.merge_latent_proj(latent) * code).sum(-1, keepdim=True))
        q, k_rope = self.rotate_parts(self.q_proj(x), k_rope, positions)
        return q, gate * latent, k_rope

    def expand(self, latent, k_rope, positions, valid):
        """latent: gated, one per token; Pastur's own cache keeps their sum per chunk."""
        chunks = positions // self.stride
        together = (chunks[:, :, None] == chunks[:, None]).tril() & valid[:, None]
        return super().expand(together.to(latent.dtype) @ latent, k_rope, positions, valid)


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
    def __init__(self, config, layer):
        super().__init__()
        self.self_attn, self.mlp = ATTENTION[config.attention["variant"]](config, layer), Mlp(config)
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, positions, valid, cache):
        x = x + self.self_attn(self.input_layernorm(x), positions, valid, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, input_ids, attention_mask=None, cache=None):
        """attention_mask: also of the tokens in the cache."""
        before = 0 if cache is None else cache.get_seq_length()
        valid = attention_mask
        if valid is None:
            valid = input_ids.new_ones(input_ids.shape[0], before + input_ids.shape[1])
        positions = (valid.long().cumsum(-1) - 1).clamp(min=0)
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, positions, valid.bool(), cache)
        return self.norm(x)


def cache_in(arguments):
    """`past_key_values` of transformers 4 is `cache` in 5."""
    cache = arguments.get("cache")
    return arguments.get("past_key_values") if cache is None else cache


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
        cache = cache_in(kwargs)
        new = input_ids if cache is None else input_ids[:, cache.get_seq_length():]
        return {"input_ids": new, "attention_mask": attention_mask, "cache": cache}

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        """`cache` or `past_key_values`: a DynamicCache of the tokens before input_ids, which are added to it."""
        logits = self.lm_head(self.model(input_ids, attention_mask, cache_in(kwargs)))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
