#pragma once
// A latent vector per token, with or without an RMS norm between down- and up-projection.
#include <string>

#include "engine/model/attention/attention.h"

namespace pastur {

class Latent {
  public:
    /// norm_name empty: no norm; value() is then the latent itself. gain: latent_gain().
    Latent(Parameters& params, const std::string& norm_name, int64_t width, double eps, float gain);

    void plan(Context& ctx, Planner& planner, Planner::Temporaries& temporaries, int64_t tokens);
    /// What the up-projection reads, given the compressed c [N, width] (rows may be strided).
    ConstTensor forward(Context& ctx, ConstTensor c);
    /// What forward() returned.
    ConstTensor value(ConstTensor c) const { return normed() ? ConstTensor(normalised_) : c; }
    /// Receives the gradient of value(); dc is the gradient of c.
    Tensor value_gradient(Tensor dc) const { return normed() ? dnormalised_ : dc; }
    /// dc = gradient of c, from value_gradient(). The norm's weight gradient is = or +=.
    void backward(Context& ctx, Tensor dc, ConstTensor c, Update update);

  private:
    bool normed() const { return normed_; }
    Parameters& params_;
    bool normed_;
    GroupId norm_{};
    int64_t width_;
    float eps_, gain_;
    Tensor normalised_, rstd_;  ///< [N, width], f32 [N]
    Tensor dnormalised_;        ///< within one backward()
};

}  // namespace pastur
