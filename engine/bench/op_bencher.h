#pragma once
// What times the ops of bench_ops.h. Its methods are in three files: GEMMs and attention in bench_ops.cpp, ops that memory
// bounds and the optimizers' updates in bench_other_ops.cpp, ops of decoding in bench_decoding_ops.cpp.
#include <functional>
#include <string>
#include <vector>

#include "engine/bench/bench_ops.h"
#include "engine/bench/core_operands.h"
#include "engine/model/measure.h"

namespace pastur {

class OpBencher {
  public:
    OpBencher(Context& ctx, const Config& config, const std::string& only, std::vector<OpBench>& results,
              const std::function<void(const OpBench&)>& measured)
        : ctx_(ctx),
          config_(config),
          dtype_(compute_dtype(config.train, ctx)),
          batch_(config.train.micro_batch),
          time_(config.data.seq_len),
          tokens_(batch_ * time_),
          only_(only),
          results_(results),
          measured_(measured) {}

    /// Throws as bench_ops().
    void run();

  private:
    using Call = std::function<void()>;
    /// Allocates one set of inputs in the pool and returns the call that uses it.
    using MakeCall = std::function<Call(TensorPool&)>;

    /// Times calls on as many sets as exceed the cache, in turn. FLOPs and bytes are those that the op
    /// reports.
    void add(const std::string& op, const std::string& shape, int64_t scratch_bytes, const MakeCall& make);

    void matmuls();
    void matmul(const std::string& name, int64_t rows, const Shape& weight);
    void fp8_matmul(const std::string& shape, int64_t rows, const Shape& weight);
    void products_and_more();
    void attention();
    void attention_core(const CoreShape& shape);
    void norms_and_gates();
    void rms_norm(const std::string& op, const Shape& x_shape, bool residual);
    void layer_norms();
    void temporal_merges();
    void head();
    void updates();
    void muon();
    void decoding();
    void decode_attention_core();
    void absorbed_maps();
    void cache_appends();

    Context& ctx_;
    const Config& config_;
    const DType dtype_;
    const int64_t batch_, time_, tokens_;
    const std::string& only_;
    bool any_ = false;                   ///< whether a name begins with only_
    std::vector<std::string> left_out_;  ///< first words of the other names
    std::vector<OpBench>& results_;
    const std::function<void(const OpBench&)>& measured_;
};

}  // namespace pastur
