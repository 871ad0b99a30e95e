#pragma once
// Sizes and layouts of the inputs in attention tests.
#include <fmt/ranges.h>

#include <memory>

#include "kernels/attention/causal_attention.h"
#include "tests/support/harness.h"

namespace pastur::test {

/// How the model lays out its tensors.
enum class Packing {
    kApart,      ///< each tensor contiguous
    kFused,      ///< q | k | v of one token in one row: mha
    kLatent,     ///< [k | v] per head in one row, k_shared behind the latent in another row: mla-decoupled
    kHeadMajor,  ///< [B, H, T, D] in memory
};

/// The bounds of documents of the given lengths, one after the other through all sequences, in turn; the end of a
/// sequence ends a document. No lengths: no bounds.
struct TestDocuments {
    std::vector<int32_t> first_key, query_end;  ///< [B, T]
    TestDocuments(const std::vector<int64_t>& lengths, int64_t batch, int64_t time) {
        size_t next = 0;
        for (int64_t b = 0; b < batch && !lengths.empty(); ++b)
            for (int64_t begin = 0, end = 0; begin < time; begin = end) {
                end = std::min(begin + lengths[next++ % lengths.size()], time);
                first_key.insert(first_key.end(), static_cast<size_t>(end - begin),
                                 static_cast<int32_t>(begin));
                query_end.insert(query_end.end(), static_cast<size_t>(end - begin),
                                 static_cast<int32_t>(end));
            }
    }
};

/// The bounds on a device.
struct DeviceDocuments {
    std::unique_ptr<DeviceTensor> first_key, query_end;
    Shape shape;
    /// Of sequences [first, first + count).
    DeviceDocuments(Context& ctx, const TestDocuments& from, int64_t first, int64_t count, int64_t time)
        : shape{count, time} {
        if (from.first_key.empty()) return;
        const auto tensor = [&](const std::vector<int32_t>& all) {
            const std::vector<double> values(all.begin() + first * time,
                                             all.begin() + (first + count) * time);
            return std::make_unique<DeviceTensor>(ctx, DType::kI32, Layout(shape), Role::kInput, values);
        };
        first_key = tensor(from.first_key);
        query_end = tensor(from.query_end);
    }
    operator DocumentBounds() const {  // NOLINT
        if (!first_key) return {};
        return {*first_key, *query_end};
    }
};

struct AttentionShape {
    int64_t batch, time, heads, kv_heads, content, rotary, value;
    Packing packing = Packing::kApart;
    double spread = 1;                    ///< of q and k: 8 makes nearly one-hot rows
    int64_t stride = 1;                   ///< AttentionInputs::stride
    std::vector<int64_t> documents = {};  ///< lengths (TestDocuments)
    std::string name() const {
        static const char* kNames[] = {"", "_fused", "_latent", "_headmajor"};
        return fmt::format("B{}_T{}_H{}of{}_D{}and{}v{}{}{}{}{}{}", batch, time, heads, kv_heads, content,
                           rotary, value, kNames[static_cast<int>(packing)], spread > 1 ? "_sharp" : "",
                           stride > 1 ? fmt::format("_stride{}", stride) : "",
                           documents.empty() ? "" : "_documents", fmt::join(documents, "and"));
    }
    Layout q() const { return head_layout(heads, content + rotary, 0); }
    Layout k() const {
        if (packing == Packing::kLatent) return per_head_pair(0, content);
        return head_layout(kv_heads, content, heads * (content + rotary));
    }
    Layout v() const {
        if (packing == Packing::kLatent) return per_head_pair(content, value);
        return head_layout(kv_heads, value, heads * (content + rotary) + kv_heads * content);
    }
    Layout k_shared() const {
        return columns({batch, time, rotary}, packing == Packing::kLatent ? 48 : 0, 0);
    }

  private:
    Layout head_layout(int64_t count, int64_t width, int64_t fused_offset) const {
        const Shape shape{batch, time, count, width};
        if (packing == Packing::kHeadMajor)
            return Layout(shape, {count * time * width, width, time * width, 1}, 0);
        if (packing != Packing::kFused) return Layout(shape);
        const int64_t row = heads * (content + rotary) + kv_heads * (content + value);
        return Layout(shape, {time * row, row, width, 1}, fused_offset);
    }
    Layout per_head_pair(int64_t offset, int64_t width) const {
        const int64_t head = content + value, row = kv_heads * head;
        return Layout({batch, time, kv_heads, width}, {time * row, row, head, 1}, offset);
    }
};

/// Paths that take inputs of this shape and layout, at an aligned address.
inline AttentionPaths paths_of(Context& ctx, const AttentionShape& shape, DType dtype) {
    alignas(16) static const std::byte kAddress[16] = {};  // never read
    const auto view = [&](const Layout& layout) {
        return ConstTensor(kAddress, dtype, layout.shape, layout.strides);
    };
    AttentionInputs in{view(shape.q()), view(shape.k()), {}, view(shape.v()), 1};
    if (shape.rotary > 0) in.k_shared = view(shape.k_shared());
    in.stride = shape.stride;
    if (!shape.documents.empty()) {
        const ConstTensor bounds(kAddress, DType::kI32, {shape.batch, shape.time});
        in.documents = {bounds, bounds};
    }
    return causal_attention_paths(ctx, in);
}

}  // namespace pastur::test
