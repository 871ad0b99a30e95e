#include "tools/pastur/eval/eval_logits.h"

#include "data/output.h"
#include "engine/io/safetensors.h"
#include "kernels/fill.h"

namespace pastur {
namespace {

/// Logits of one sequence after another.
class SequenceLogits {
  public:
    SequenceLogits(Context& ctx, Model& model, DeviceBatch& batch, const TokenLoader& data)
        : ctx_(ctx),
          model_(model),
          batch_(batch),
          data_(data),
          time_(model.shape().time),
          vocab_(model.config().model.vocab),
          computed_(allocate(ctx, time_ * vocab_ * size_of(model.params().compute_dtype()))),
          wide_(allocate(ctx, time_ * vocab_ * size_of(DType::kF32))),
          host_(static_cast<size_t>(time_ * vocab_)) {}

    std::span<const std::byte> logits(int64_t sequence) {
        const TokenBatch tokens = read(sequence);
        batch_.upload(ctx_, tokens);
        model_.forward(ctx_, batch_.losses(), batch_.tokens(), batch_.targets());
        const Tensor computed(computed_.data(), model_.params().compute_dtype(), {time_, vocab_});
        const Tensor wide(wide_.data(), DType::kF32, {time_, vocab_});
        model_.logits(ctx_, computed);
        cast(ctx_, wide, computed);
        download(ctx_, as_tensor(std::span(host_)).reshape({time_, vocab_}), wide);
        return std::as_bytes(std::span(host_));
    }
    std::span<const std::byte> tokens(int64_t sequence) {
        tokens_ = read(sequence).tokens;
        return std::as_bytes(std::span(tokens_));
    }

  private:
    TokenBatch read(int64_t sequence) const {
        const ReadSequence read = [this](int64_t i, std::span<int32_t> out) { data_.sequence(i, out); };
        return read_batch(read, sequence, model_.shape());
    }

    Context& ctx_;
    Model& model_;
    DeviceBatch& batch_;
    const TokenLoader& data_;
    int64_t time_, vocab_;
    Buffer computed_, wide_;
    std::vector<float> host_;
    std::vector<int32_t> tokens_;
};

}  // namespace

void write_logits(const std::filesystem::path& file, Context& ctx, Model& model, DeviceBatch& batch,
                  const TokenLoader& data, int64_t sequences) {
    SequenceLogits source(ctx, model, batch, data);
    const int64_t time = model.shape().time, vocab = model.config().model.vocab;
    std::vector<TensorSource> tensors;
    for (int64_t i = 0; i < sequences; ++i) {
        tensors.push_back(
            {fmt::format("tokens.{}", i), DType::kI32, {time}, [&source, i] { return source.tokens(i); }});
        tensors.push_back({fmt::format("logits.{}", i), DType::kF32, {time, vocab}, [&source, i] {
                               return source.logits(i);
                           }});
    }
    std::filesystem::path unfinished = file;
    unfinished += ".part";
    std::error_code ignored;
    std::filesystem::remove(unfinished, ignored);  // of an interrupted run
    write_safetensors(unfinished, tensors, {});
    rename_durably(unfinished, file);
}

}  // namespace pastur
