#pragma once
// attention.qk_norm: an RMS norm with gain over each head's queries or keys, before the rotation.
#include <string>
#include <vector>

#include "engine/model/attention/attention.h"

namespace pastur {

bool normalises_heads(const Config& config);
/// The weight of a norm, for QkRows::gain and QkLink::gain; empty without attention.qk_norm.
std::string head_norm(const Config& config, const char* name);

/// x [N, H, w], the heads of a row one after the other, as [N, H w]: a view.
inline Tensor merge_heads(Tensor x) {
    PASTUR_CHECK(x.rank() == 3 && (x.size(1) == 1 || x.stride(1) == x.size(2)), "merge_heads of {}",
                 describe(x));
    return Tensor(x.bytes(), x.dtype(), {x.size(0), x.size(1) * x.size(2)}, {x.stride(0), 1});
}

/// The heads of the queries or of the keys. Without attention.qk_norm they pass through.
class HeadNorm {
  public:
    /// Neighbouring columns of a head that have a norm of their own: "q_norm", "q_rope_norm".
    struct Part {
        std::string name;
        int64_t width;
    };
    HeadNorm(const Config& config, Parameters& params, const std::string& prefix,
             const std::vector<Part>& parts);
    bool on() const { return !parts_.empty(); }

    void plan(Context& ctx, Planner& planner, Planner::Temporaries& temporaries, int64_t tokens,
              int64_t heads);
    /// Normalises x [N, H, w], any strides of N and H.
    void forward(Context& ctx, ConstTensor x);
    /// out [M, H, w] = x [M, H, w], normalised, for rows of other tokens than those of plan(). rstd f32 [M, H], =.
    void normalise(Context& ctx, Tensor out, Tensor rstd, ConstTensor x) const;
    /// [N, H, w]: what the scores or the compression read, after forward(x). It may be rotated in place.
    Tensor value(Tensor x) const { return on() ? normalised_ : x; }
    /// Receives the gradient of value() before its rotation; dx is the gradient of x.
    Tensor value_gradient(Tensor dx) const { return on() ? dnormalised_ : dx; }
    /// dx = gradient of x, from value_gradient(). The gradients of the weights are = or +=.
    void backward(Context& ctx, Tensor dx, ConstTensor x, Update update);

  private:
    struct Norm {
        GroupId weight;
        int64_t first, width;  ///< columns of a head
        Tensor rstd;           ///< f32 [N, H]
    };
    Parameters& params_;
    std::vector<Norm> parts_;
    float eps_;
    int64_t width_ = 0;
    Tensor normalised_;   ///< [N, H, w]
    Tensor dnormalised_;  ///< within one backward()
};

}  // namespace pastur
