#pragma once
// Attention inputs of every shape that has a kernel, for the tests of causal_attention.h.
#include <memory>
#include <vector>

#include "kernels/attention/causal_attention.h"
#include "tests/kernels/attention/attention_shape.h"
#include "tests/ref/causal_attention.h"

namespace pastur::test {

// Tiles of attention kernels have 64 to 128 rows: lengths are at, just below and just above their edges.
inline const std::vector<AttentionShape> kAttentionShapes = {
    {1, 1, 1, 1, 8, 0, 8},
    {2, 1, 3, 1, 16, 8, 24},
    {1, 2, 1, 1, 8, 0, 8},
    {2, 7, 2, 2, 8, 0, 8},
    {1, 7, 4, 2, 24, 0, 40},
    {2, 5, 3, 1, 8, 8, 16},
    {1, 9, 2, 2, 40, 8, 24},
    {1, 33, 2, 2, 32, 0, 32},
    {2, 33, 4, 2, 24, 8, 40, Packing::kHeadMajor},
    {1, 64, 2, 2, 64, 0, 64, Packing::kFused},
    {2, 65, 2, 1, 64, 0, 64, Packing::kFused},
    {1, 64, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 65, 3, 3, 32, 32, 64, Packing::kLatent},
    {1, 63, 2, 2, 128, 0, 128},
    {1, 65, 1, 1, 128, 64, 128, Packing::kLatent},
    {1, 129, 2, 2, 64, 0, 64, Packing::kFused},
    {1, 129, 1, 1, 32, 32, 64, Packing::kLatent},
    {1, 127, 2, 1, 128, 0, 128, Packing::kFused},
    {1, 130, 1, 1, 128, 64, 128, Packing::kLatent},
    {1, 257, 1, 1, 64, 0, 64},
    {1, 257, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 130, 2, 2, 64, 32, 64, Packing::kLatent},
    {1, 200, 4, 2, 128, 0, 128},
    {1, 258, 2, 2, 128, 0, 128, Packing::kFused},
    {1, 270, 2, 2, 128, 64, 128, Packing::kLatent},
    {1, 65, 3, 3, 64, 64, 128, Packing::kLatent},
    {1, 258, 2, 2, 64, 64, 128, Packing::kLatent},
    {1, 70, 2, 2, 64, 0, 64, Packing::kApart, 8},
    // Short sequences of 64 columns have kernels that hold a whole head, 16 tokens per warp, 64 to 256 tokens
    // per CTA, and walk from head to head where there are more heads than the device holds at a time.
    {1, 1, 2, 2, 64, 0, 64, Packing::kFused},
    {2, 5, 3, 3, 64, 0, 64, Packing::kFused},
    {50, 5, 12, 12, 64, 0, 64, Packing::kFused},
    {1, 17, 3, 3, 32, 32, 64, Packing::kLatent},
    {120, 3, 6, 6, 32, 32, 64, Packing::kLatent},
    {1050, 2, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 63, 1, 1, 64, 0, 64, Packing::kHeadMajor},
    {1, 127, 1, 1, 64, 0, 64, Packing::kFused},
    {1, 128, 2, 2, 32, 32, 64, Packing::kLatent},
    {1, 200, 1, 1, 64, 0, 64, Packing::kFused, 8},
    {1, 255, 1, 1, 64, 0, 64, Packing::kFused},
    {1, 256, 1, 1, 64, 0, 64, Packing::kFused},
    {1, 256, 2, 2, 32, 32, 64, Packing::kLatent},
    // Strides, up to one beyond the length: every path that takes them, at the edges of its tiles.
    {2, 7, 2, 2, 8, 0, 8, Packing::kApart, 1, 2},
    {2, 9, 3, 1, 20, 4, 12, Packing::kApart, 1, 3},
    {1, 5, 2, 2, 8, 8, 16, Packing::kLatent, 1, 7},
    {1, 65, 3, 3, 32, 32, 64, Packing::kLatent, 1, 2},
    {1, 130, 2, 2, 64, 32, 64, Packing::kLatent, 1, 3},
    {1, 200, 4, 2, 128, 0, 128, Packing::kApart, 1, 5},
    {1, 129, 2, 1, 64, 0, 64, Packing::kFused, 1, 100},
    {1, 128, 2, 2, 32, 32, 64, Packing::kLatent, 1, 3},
    {2, 192, 2, 2, 32, 32, 64, Packing::kLatent, 1, 5},
    {1, 200, 3, 3, 64, 0, 64, Packing::kFused, 8, 2},
    {1, 255, 2, 2, 32, 32, 64, Packing::kLatent, 1, 2},
    {1, 256, 2, 2, 32, 32, 64, Packing::kLatent, 1, 3},
    {1, 256, 1, 1, 64, 0, 64, Packing::kFused, 1, 300},
    {1, 258, 2, 2, 64, 64, 128, Packing::kLatent, 1, 2},
    {1, 257, 2, 2, 32, 32, 64, Packing::kLatent, 1, 64},
    // Documents: of one token, with ends at and next to the edges of tiles, longer than the sequence; with strides.
    {2, 7, 2, 2, 8, 0, 8, Packing::kApart, 1, 1, {3, 1}},
    {1, 9, 2, 1, 16, 8, 24, Packing::kApart, 1, 1, {1}},
    {1, 65, 2, 2, 64, 0, 64, Packing::kFused, 1, 1, {64}},
    {3, 70, 2, 1, 64, 0, 64, Packing::kApart, 8, 1, {33, 100}},
    {1, 127, 2, 2, 32, 32, 64, Packing::kLatent, 1, 1, {20, 1, 1, 43}},
    {1, 129, 3, 3, 32, 32, 64, Packing::kLatent, 1, 1, {1, 63, 2, 62}},
    {2, 200, 2, 2, 64, 0, 64, Packing::kFused, 1, 1, {5, 90, 33}},
    {1, 256, 2, 2, 32, 32, 64, Packing::kLatent, 1, 1, {128, 127}},
    {1, 256, 2, 2, 64, 0, 64, Packing::kFused, 1, 1, {1}},
    {1, 257, 1, 1, 64, 0, 64, Packing::kFused, 1, 1, {100, 28, 65}},
    {1, 300, 4, 2, 64, 0, 64, Packing::kApart, 1, 1, {129, 300}},
    {1, 200, 4, 2, 128, 0, 128, Packing::kApart, 1, 1, {70, 58}},
    {1, 130, 2, 2, 64, 32, 64, Packing::kLatent, 1, 1, {31, 33}},
    {1, 258, 2, 2, 64, 64, 128, Packing::kLatent, 1, 1, {192, 64}},
    {1, 270, 2, 2, 128, 64, 128, Packing::kLatent, 1, 1, {127, 1, 130}},
    {1, 257, 2, 2, 32, 32, 64, Packing::kLatent, 1, 1, {1}},
    {2, 9, 3, 1, 20, 4, 12, Packing::kApart, 1, 3, {2, 4}},
    {1, 130, 3, 3, 32, 32, 64, Packing::kLatent, 1, 3, {40, 1}},
    {1, 256, 2, 2, 32, 32, 64, Packing::kLatent, 1, 5, {77, 64}},
    {1, 258, 2, 2, 32, 32, 64, Packing::kLatent, 1, 2, {65, 130}},
    {1, 140, 2, 2, 64, 64, 128, Packing::kLatent, 1, 70, {100}},
};

class CausalAttention : public OpTest<AttentionShape> {
  protected:
    const TestDocuments documents_{shape().documents, shape().batch, shape().time};
    const ref::AttentionSizes n_{shape().batch,    shape().time,    shape().heads,
                                 shape().kv_heads, shape().content, shape().rotary,
                                 shape().value,    shape().stride,  documents_.first_key};
    const int64_t tokens_ = n_.batch * n_.time;
    const std::vector<double> q_ = normal(tokens_ * n_.heads * n_.query(), shape().spread);
    const std::vector<double> k_ = normal(tokens_ * n_.kv_heads * n_.content);
    const std::vector<double> k_shared_ = normal(tokens_ * n_.rotary);
    const std::vector<double> v_ = normal(tokens_ * n_.kv_heads * n_.value);
    const std::vector<double> dout_ = normal(tokens_ * n_.heads * n_.value);
    const float scale_ = static_cast<float>(1 / std::sqrt(static_cast<double>(n_.query())));
    const ref::AttentionResult<double> want_ = ref::causal_attention(q_, k_, k_shared_, v_, n_, scale_);
    const Layout out_layout_{n_.batch, n_.time, n_.heads, n_.value};
    const Layout lse_layout_{n_.batch, n_.heads, n_.time};

    /// The inputs on the device.
    struct Inputs {
        DeviceTensor q, k, v;
        std::unique_ptr<DeviceTensor> k_shared;
        float scale;
        int64_t stride;
        DeviceDocuments documents;
        operator AttentionInputs() const {  // NOLINT
            AttentionInputs in{q, k, k_shared ? ConstTensor(*k_shared) : ConstTensor(), v, scale};
            in.stride = stride;
            in.documents = documents;
            return in;
        }
    };
    Inputs inputs() const {
        return Inputs{input(q_, shape().q()),
                      input(k_, shape().k()),
                      input(v_, shape().v()),
                      shared(Role::kInput),
                      scale_,
                      n_.stride,
                      DeviceDocuments(ctx(), documents_, 0, n_.batch, n_.time)};
    }
    struct Grads {
        DeviceTensor dq, dk, dv;
        std::unique_ptr<DeviceTensor> dk_shared;
        operator AttentionGrads() const {  // NOLINT
            return {dq, dk, dk_shared ? Tensor(*dk_shared) : Tensor(), dv};
        }
    };
    Grads grads() const {
        return Grads{output(shape().q()), output(shape().k()), output(shape().v()), shared(Role::kOutput)};
    }
    std::unique_ptr<DeviceTensor> shared(Role role) const {
        if (n_.rotary == 0) return nullptr;
        return std::make_unique<DeviceTensor>(ctx(), dtype(), shape().k_shared(), role, k_shared_);
    }
    /// Expected size of dq and dk. dS = P (dP - delta) is a difference of two sums of d_v products of numbers
    /// about 1, which cancels over one key and nearly so in one-hot rows; P spreads dS over the row's keys
    /// unless it is one-hot.
    double terms() const {
        int64_t seen = (n_.time + n_.stride - 1) / n_.stride;
        // Early rows of a document see few of its keys; with several documents, a sample has more of them.
        for (const int64_t length : shape().documents) seen = std::min(seen, (length + 7) / 8);
        const auto keys = static_cast<double>(shape().spread > 1 ? 1 : seen);
        return scale_ * std::sqrt(static_cast<double>(n_.value) / keys);
    }
    /// Expected size of the gradients of keys that end a chunk, which all later queries see.
    double key_terms() const {
        return terms() * std::sqrt(static_cast<double>(std::min(n_.stride, n_.time)));
    }

    /// Runs test(in) on every path that takes a pass of these inputs, named in in.path.
    template <typename Test>
    void on_paths(const std::vector<std::string>& paths, AttentionInputs in, const Test& test) const {
        for (const std::string& path : paths) {
            SCOPED_TRACE("path " + path);
            in.path = path;
            test(in);
        }
    }
    template <typename Test>
    void on_forward_paths(const AttentionInputs& in, const Test& test) const {
        on_paths(causal_attention_paths(ctx(), in).forward, in, test);
    }
    template <typename Test>
    void on_backward_paths(const AttentionInputs& in, const Test& test) const {
        on_paths(causal_attention_paths(ctx(), in).backward, in, test);
    }

    /// out and lse are the reference's, so an error of the forward pass does not appear here again.
    void backward(const AttentionGrads& to, const AttentionInputs& in) {
        std::vector<double> out(want_.out), lse(want_.lse);
        for (double& x : out) x = rounded(x, dtype());
        for (double& x : lse) x = rounded(x, DType::kF32);
        const auto device_out = input(out, out_layout_), dout = input(dout_, out_layout_);
        const auto device_lse = input(lse, lse_layout_, DType::kF32);
        reserve(causal_attention_backward_scratch_bytes(ctx(), in));
        causal_attention_backward(ctx(), to, dout, device_out, device_lse, in);
    }
};

}  // namespace pastur::test
