// Ops of decoding, which read much and compute little: their rates count against the copy ceiling.
#include <algorithm>

#include "engine/bench/op_bencher.h"
#include "engine/model/attention/variants.h"
#include "engine/model/model.h"
#include "kernels/attention/cache_append.h"
#include "kernels/attention/decode_attention.h"
#include "kernels/attention/head_linear.h"
#include "kernels/row_argmax.h"

namespace pastur {
namespace {

/// What attention reads while the variant decodes: keys and values, or latents in their place.
struct DecodeCore {
    int64_t sequences;  ///< of one call
    int64_t slots, heads, kv_heads, key, shared, value;
    bool joint;  ///< one latent is both key and value
};

bool decompresses(const Config& config, DType dtype) {
    const Model model(config, dtype, {1, 1});
    return model.layers().front().attention().decompresses();
}

/// Whether the cache holds latents that queries and outputs are mapped to.
bool absorbs(const Config& config, DType dtype) {
    const CacheLayout layout = variant_of(config).cache(config);
    return std::string_view(layout.parts.front().name).ends_with("latent") && !decompresses(config, dtype);
}

DecodeCore decode_core(const Config& config, DType dtype) {
    const CacheLayout layout = variant_of(config).cache(config);
    const CoreWidths widths = variant_of(config).core_widths(config);
    const int64_t slots = layout.slots(config.data.seq_len), heads = config.model.heads;
    const int64_t content = widths.qk - widths.shared;
    if (decompresses(config, dtype)) return {1, slots, heads, heads, content, widths.shared, widths.v, false};
    const CachePart& keys = layout.parts.front();
    const bool joint = absorbs(config, dtype) && std::string_view(keys.name) == "latent";
    const CachePart& values = joint ? keys : layout.parts[1];
    return {
        config.train.micro_batch, slots, heads, keys.heads, keys.width, widths.shared, values.width, joint};
}

}  // namespace

void OpBencher::decoding() {
    decode_attention_core();
    if (absorbs(config_, dtype_)) absorbed_maps();
    cache_appends();
    const int64_t vocab = config_.model.vocab;
    add("row argmax", to_string({batch_, vocab}), 0, [&](TensorPool& pool) -> Call {
        const Tensor logits = pool.normal(dtype_, {batch_, vocab});
        return [this, logits, ids = pool.empty(DType::kI32, {batch_})] { row_argmax(ctx_, ids, logits); };
    });
}

/// Every sequence has a full cache.
void OpBencher::decode_attention_core() {
    const DecodeCore s = decode_core(config_, dtype_);
    const std::string shape =
        fmt::format("B {} H {} of {} S {} d_qk {}{} d_v {}", s.sequences, s.heads, s.kv_heads, s.slots, s.key,
                    s.shared ? fmt::format(" + {} shared", s.shared) : "", s.value);
    add("decode attention", shape, 0, [&](TensorPool& pool) -> Call {
        DecodeInputs in{};
        in.q = pool.normal(dtype_, {s.sequences, s.heads, s.key});
        in.k = pool.normal(dtype_, {s.sequences, s.slots, s.kv_heads, s.key});
        in.v = s.joint ? in.k : pool.normal(dtype_, {s.sequences, s.slots, s.kv_heads, s.value});
        if (s.shared > 0) {
            in.q_shared = pool.normal(dtype_, {s.sequences, s.heads, s.shared});
            in.k_shared = pool.normal(dtype_, {s.sequences, s.slots, s.shared});
        }
        const Tensor lengths = pool.empty(DType::kI32, {s.sequences});
        const std::vector<int32_t> full(static_cast<size_t>(s.sequences), static_cast<int32_t>(s.slots));
        upload(ctx_, lengths, as_tensor(std::span(full)));
        in.lengths = lengths;
        in.longest = s.slots;
        in.scale = 0.1f;
        reserve_scratch(ctx_, decode_attention_scratch_bytes(ctx_, in));
        return [this, in, out = pool.empty(dtype_, {s.sequences, s.heads, s.value})] {
            decode_attention(ctx_, out, in);
        };
    });
}

/// Queries to the latent of the keys, and outputs from that of the values.
void OpBencher::absorbed_maps() {
    const DecodeCore s = decode_core(config_, dtype_);
    const CoreWidths widths = variant_of(config_).core_widths(config_);
    const auto map = [&](const char* of, int64_t rows, int64_t rank, HeadMap direction) {
        const int64_t in = direction == HeadMap::kTransposed ? rows : rank, out = rows + rank - in;
        const std::string shape = fmt::format("{} [{}, {}, {}] x {}", of, s.heads, rows, rank, batch_);
        add("head linear", shape, 0, [&](TensorPool& pool) -> Call {
            const Tensor w = pool.normal(dtype_, {s.heads, rows, rank}, 0.02f);
            const Tensor x = pool.normal(dtype_, {batch_, s.heads, in});
            return [=, this, y = pool.empty(dtype_, {batch_, s.heads, out})] {
                head_linear(ctx_, y, x, w, direction);
            };
        });
    };
    map("queries", widths.qk - widths.shared, s.key, HeadMap::kTransposed);
    map("outputs", widths.v, s.value, HeadMap::kForward);
}

void OpBencher::cache_appends() {
    /// Slots of the cache. Only one is written, which takes as long in a longer cache.
    constexpr int64_t kSlots = 4;
    const CacheLayout layout = variant_of(config_).cache(config_);
    for (const CachePart& part : layout.parts) {
        const int64_t width = part.heads * part.width;
        const std::string shape =
            fmt::format("{} [{}, {}]{}", part.name, batch_, width,
                        layout.stride > 1 ? fmt::format(" stride {}", layout.stride) : "");
        add("cache append", shape, 0, [&](TensorPool& pool) -> Call {
            const Tensor cache = pool.normal(dtype_, {batch_, kSlots, width}),
                         x = pool.normal(dtype_, {batch_, width});
            const Tensor positions = pool.ids(batch_, kSlots * layout.stride);
            return [=, this, stride = layout.stride, summed = part.summed] {
                cache_append(ctx_, cache, x, positions, stride, summed);
            };
        });
    }
}

}  // namespace pastur
