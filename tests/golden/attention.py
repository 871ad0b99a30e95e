"""Attention of every variant in float64: shapes of its weights and its forward pass, as make_golden.py uses them."""

import math

import torch

LATENT_EPS = 1e-6  # DeepSeek's latent norms use this instead of norm_eps


def split_widths(c):
    """Widths of a key's part of its own and of the rotary part that all heads share."""
    return (c["nope_dim"], c["rope_dim"]) if "rope_dim" in c else (c["head_dim"], 0)


def attention_shapes(c):
    """Shapes [out, in] of the weights of one layer's attention."""
    d, heads = c["d_model"], c["heads"]
    inner, kv_inner = heads * c["head_dim"], c["kv_heads"] * c["head_dim"]
    if c["variant"] in ("mha", "mha-nope"):
        return {"q_proj": (inner, d), "k_proj": (kv_inner, d), "v_proj": (kv_inner, d), "o_proj": (d, inner)}
    if c["variant"] == "mla-prerope" and c["prerope_site"] == "input":
        rank = c["kv_rank"]
        return {"q_proj": (inner, d), "kv_a_proj": (rank, d), "k_b_proj": (inner, rank), "v_b_proj": (inner, rank),
                "o_proj": (d, inner)}
    if c["variant"] == "mla-prerope":
        k_rank, v_rank = c["k_rank"], c["v_rank"]
        shapes = {"q_proj": (inner, d), "k_proj": (inner, d), "k_a_proj": (k_rank, inner), "k_b_proj": (inner, k_rank),
                  "v_a_proj": (v_rank, d), "v_b_proj": (inner, v_rank), "o_proj": (d, inner)}
        norms = {"k_a_layernorm": (k_rank,), "v_a_layernorm": (v_rank,)}
        return shapes | (norms if c["latent_norm"] else {})
    if c["variant"] == "mha-shared-rope":
        d_n, d_r, values = c["nope_dim"], c["rope_dim"], heads * c["v_dim"]
        return {"q_proj": (heads * (d_n + d_r), d), "k_proj": (heads * d_n, d), "k_rope_proj": (d_r, d),
                "v_proj": (values, d), "o_proj": (d, values)}
    d_n, d_r = split_widths(c)
    queries = heads * (d_n + d_r)
    if c["variant"] == "mtla":
        rank = c["kv_rank"]
        code = rank // 4
        return {"q_proj": (queries, d), "kv_a_proj_with_mqa": (rank + c["rope_dim"], d), "kv_a_layernorm": (rank,),
                "kv_a_layernorm.bias": (rank,), "merge_latent_proj": (code, rank), "merge_latent_proj.bias": (code,),
                "merge_chunk_proj": (code, rank), "merge_chunk_proj.bias": (code,),
                "kv_b_proj": (heads * (c["nope_dim"] + c["v_dim"]), rank), "o_proj": (d, heads * c["v_dim"])}
    compressed = {"q_a_proj": (c["q_rank"], d), "q_a_layernorm": (c["q_rank"],), "q_b_proj": (queries, c["q_rank"])}
    return (compressed if c["q_rank"] else {"q_proj": (queries, d)}) | {
        "kv_a_proj_with_mqa": (c["kv_rank"] + d_r, d),
        "kv_a_layernorm": (c["kv_rank"],),
        "kv_b_proj": (heads * (d_n + c["v_dim"]), c["kv_rank"]),
        "o_proj": (d, heads * c["v_dim"]),
    }


def tensor_name(name):
    return name if name.endswith(".bias") else name + ".weight"


def head_norms(c):
    """Widths of the norms over each head's queries and keys, as in Qwen3; rotary parts have norms of their own."""
    if c.get("qk_norm") != "head":
        return {}
    d_n, d_r = split_widths(c)
    rotary = {"q_rope_norm": d_r, "k_rope_norm": d_r} if d_r else {}
    return {"q_norm": d_n, "k_norm": d_n} | rotary


def clipped_rows(c):
    """Rows that train.qk_clip scales, as (tensor, rows of a head, first row, rows from head to head, exponent of gamma)."""
    d = c["head_dim"]
    if c["variant"] == "mla-prerope" and c.get("qk_norm") == "head":
        return [("k_b_proj", d, 0, d, 1)]
    if c["variant"] == "mla-prerope":
        return [("q_proj", d, 0, d, 0.5), ("k_b_proj", d, 0, d, 0.5)]
    if c["variant"] == "mha":
        own_keys = c["kv_heads"] == c["heads"]
        return [("q_proj", d, 0, d, 0.5), ("k_proj", d, 0, d, 0.5)] if own_keys else [("q_proj", d, 0, d, 1)]
    assert c["variant"] == "mla-decoupled" and not c["q_rank"]
    d_n, d_r = split_widths(c)
    return [("q_proj", d_n, 0, d_n + d_r, 0.5), ("q_proj", d_r, d_n, d_n + d_r, 1),
            ("kv_b_proj", d_n, 0, d_n + c["v_dim"], 0.5)]


def rms_norm(x, weight, eps):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x, base):
    """Rotates the pairs (i, i + D/2) of x [B, T, heads, D] at position t by t base^(-2i/D)."""
    time, dim = x.shape[1], x.shape[3]
    frequency = base ** (-2.0 * torch.arange(dim // 2, dtype=x.dtype) / dim)
    angle = torch.arange(time, dtype=x.dtype)[:, None, None] * frequency  # [T, 1, D/2]
    cos, sin = angle.cos(), angle.sin()
    first, second = x.split(dim // 2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def causal_attention(q, k, v, scale, stride=1, max_logits=None):
    """q [B, T, H, Dqk], k [B, T, Hkv, Dqk], v [B, T, Hkv, Dv] -> [B, T, H Dv]; head h reads key head h // group.
    Query i sees key n if n = i, or if n < i and n is the last of `stride` adjacent keys. Appends the largest logit of each
    head, [H], to max_logits."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = scale * torch.einsum("bthd,bshd->bhts", q, k)
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    hidden |= (torch.arange(1, hidden.shape[1] + 1) % stride != 0) & ~torch.eye(hidden.shape[0], dtype=torch.bool)
    scores = scores.masked_fill(hidden, -math.inf)
    if max_logits is not None:
        max_logits.append(scores.detach().amax(dim=(0, 2, 3)))
    probabilities = scores.softmax(dim=-1)
    return torch.einsum("bhts,bshd->bthd", probabilities, v).flatten(2)


class Attention:
    """Attention of each variant; x is already normalised. Every call appends the heads' largest logits to max_logits."""

    def __init__(self, c, weights, prefix, max_logits):
        self.c, self.weights, self.prefix, self.max_logits = c, weights, prefix, max_logits

    def attend(self, q, k, v, width, stride=1):
        return causal_attention(q, k, v, width ** -0.5, stride, self.max_logits)

    def __call__(self, x):
        cores = {"mha": self.mha, "mha-nope": self.mha, "mha-shared-rope": self.shared_rope, "mla-rope": self.latent_rope,
                 "mla-nope": self.latent_rope, "mla-prerope": self.prerope, "mla-decoupled": self.decoupled,
                 "mtla": self.temporal}
        return self.linear(cores[self.c["variant"]](x), "o_proj")

    def w(self, name):
        return self.weights[f"{self.prefix}{tensor_name(name)}"]

    def linear(self, x, name):
        return x @ self.w(name).T

    def heads(self, x, name):
        return self.linear(x, name).unflatten(-1, (-1, self.c["head_dim"]))

    def rotate(self, x):
        return x if self.c["variant"].endswith("-nope") else rotate(x, self.c["rope_theta"])

    def head_norm(self, x, name):
        return rms_norm(x, self.w(name), self.c["norm_eps"]) if self.c.get("qk_norm") == "head" else x

    def queries_and_keys(self, x):
        """At full width, rotated."""
        return (self.rotate(self.head_norm(self.heads(x, name + "_proj"), name + "_norm")) for name in ("q", "k"))

    def mha(self, x):
        q, k = self.queries_and_keys(x)
        return self.attend(q, k, self.heads(x, "v_proj"), self.c["head_dim"])

    def latent(self, latent, norm_name):
        return self.normed(latent, norm_name, self.c["norm_eps"]) if self.c["latent_norm"] else latent

    def normed(self, latent, norm_name, eps):
        gain = math.sqrt(self.c["d_model"] / latent.shape[-1]) if self.c.get("latent_gain") == "sqrt" else 1
        return gain * rms_norm(latent, self.w(norm_name), eps)

    def prerope(self, x):
        dim = self.c["head_dim"]
        if self.c["prerope_site"] == "input":  # rotates the input, in blocks of the width of a head
            q, rotated = self.rotate(self.heads(x, "q_proj")), self.rotate(x.unflatten(-1, (-1, dim))).flatten(2)
            key_latent = value_latent = self.linear(rotated, "kv_a_proj")
        else:  # rotates the keys at full width, then compresses them
            q, rotated = self.queries_and_keys(x)
            rotated = rotated.flatten(2)
            key_latent = self.latent(self.linear(rotated, "k_a_proj"), "k_a_layernorm")
            value_latent = self.latent(self.linear(x, "v_a_proj"), "v_a_layernorm")
        k, v = self.heads(key_latent, "k_b_proj"), self.heads(value_latent, "v_b_proj")
        return self.attend(q, k, v, dim)

    def latent_queries(self, x):
        if not self.c["q_rank"]:
            return self.linear(x, "q_proj")
        return self.linear(self.normed(self.linear(x, "q_a_proj"), "q_a_layernorm", LATENT_EPS), "q_b_proj")

    def decompressed(self, latent, d_n):
        """Keys and values of every head from the latent [B, T, kv_rank]."""
        kv = self.linear(self.normed(latent, "kv_a_layernorm", LATENT_EPS), "kv_b_proj")
        return kv.unflatten(-1, (self.c["heads"], -1)).split([d_n, self.c["v_dim"]], dim=-1)

    def latent_rope(self, x):
        dim = self.c["head_dim"]
        k, v = self.decompressed(self.linear(x, "kv_a_proj_with_mqa"), dim)
        q = self.latent_queries(x).unflatten(-1, (-1, dim))
        q, k = self.rotate(self.head_norm(q, "q_norm")), self.rotate(self.head_norm(k, "k_norm"))
        return self.attend(q, k, v, dim)

    def split_attention(self, q, k_n, k_r, v):
        """Attention of heads whose queries q and keys have an unrotated part (k_n) and a rotary part; the key of the
        latter, k_r [B, T, d_r], is one vector per token, for all heads."""
        heads, d_n, d_r = self.c["heads"], self.c["nope_dim"], self.c["rope_dim"]
        q_n, q_r = q.unflatten(-1, (heads, d_n + d_r)).split([d_n, d_r], dim=-1)
        q_n, q_r = self.head_norm(q_n, "q_norm"), self.head_norm(q_r, "q_rope_norm")
        k_n, k_r = self.head_norm(k_n, "k_norm"), self.head_norm(k_r, "k_rope_norm")
        k_r = self.rotate(k_r.unsqueeze(2)).expand(-1, -1, heads, -1)
        q, k = torch.cat([q_n, self.rotate(q_r)], dim=-1), torch.cat([k_n, k_r], dim=-1)
        return self.attend(q, k, v, d_n + d_r)

    def decoupled(self, x):
        kv_latent, k_r = self.linear(x, "kv_a_proj_with_mqa").split([self.c["kv_rank"], self.c["rope_dim"]], dim=-1)
        k_n, v = self.decompressed(kv_latent, self.c["nope_dim"])
        return self.split_attention(self.latent_queries(x), k_n, k_r, v)

    def shared_rope(self, x):
        k_n, v = (self.linear(x, name).unflatten(-1, (self.c["heads"], -1)) for name in ("k_proj", "v_proj"))
        return self.split_attention(self.linear(x, "q_proj"), k_n, self.linear(x, "k_rope_proj"), v)

    def temporal(self, x):
        c = self.c
        heads, rank, d_n, d_r, d_v = c["heads"], c["kv_rank"], c["nope_dim"], c["rope_dim"], c["v_dim"]
        q_n, q_r = self.linear(x, "q_proj").unflatten(-1, (heads, d_n + d_r)).split([d_n, d_r], dim=-1)
        latent, k_r = self.linear(x, "kv_a_proj_with_mqa").split([rank, d_r], dim=-1)
        latent = torch.nn.functional.layer_norm(latent, (rank,), self.w("kv_a_layernorm"),
                                                self.w("kv_a_layernorm.bias"))
        time = x.shape[1]
        chunk = torch.arange(time) // c["stride"]
        angle = chunk[:, None] * 10000.0 ** (-2.0 * (torch.arange(rank, dtype=x.dtype) // 2) / rank)
        position = torch.where(torch.arange(rank) % 2 == 0, angle.sin(), angle.cos())
        code = self.linear(latent, "merge_latent_proj") + self.w("merge_latent_proj.bias")
        chunk_code = self.linear(position, "merge_chunk_proj") + self.w("merge_chunk_proj.bias")
        gate = torch.sigmoid((code * chunk_code).sum(-1, keepdim=True))
        together = (chunk[:, None] == chunk).to(x.dtype).tril()  # of the same chunk and not later
        kv = self.linear(together @ (gate * latent), "kv_b_proj")
        k_n, v = kv.unflatten(-1, (heads, d_n + d_v)).split([d_n, d_v], dim=-1)
        k_r = self.rotate(k_r.unsqueeze(2)).expand(-1, -1, heads, -1)
        q, k = torch.cat([q_n, self.rotate(q_r)], dim=-1), torch.cat([k_n, k_r], dim=-1)
        return self.attend(q, k, v, d_n + d_r, c["stride"])
