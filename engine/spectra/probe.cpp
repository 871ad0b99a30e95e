#include "engine/spectra/probe.h"

#include <algorithm>

#include "kernels/attention_logits.h"

namespace pastur {
namespace {

BatchShape probe_shape(const Config& config) {
    return {std::min(config.diagnostics.probe_sequences, config.train.micro_batch), config.data.seq_len};
}

/// The layers of the training model, in the least memory.
Model layers_of(const Model& model) {
    Config config = model.config();
    config.train.recompute = Recompute::kBlock;
    return Model(config, model.params().compute_dtype(), probe_shape(config));
}

Shape logit_sums_shape(const Config& config) {
    return {config.model.layers, probe_shape(config).batch * config.model.heads,
            (config.data.seq_len + kLogitTile - 1) / kLogitTile, kLogitSums};
}

int64_t passes_of(int64_t sequences, const Config& config) {
    const int64_t batch = probe_shape(config).batch;
    return (sequences + batch - 1) / batch;
}

/// Tokens and sums.
int64_t buffer_bytes(const Config& config, int64_t sequences) {
    return align_up(passes_of(sequences, config) * probe_shape(config).tokens() * size_of(DType::kI32)) +
           align_up(logit_sums_shape(config).numel() * size_of(DType::kF64));
}

}  // namespace

int64_t Probe::planned_bytes(Context& ctx, const Model& model) {
    return layers_of(model).measure_layers(ctx).bytes() +
           buffer_bytes(model.config(), model.config().diagnostics.probe_sequences);
}

Probe::Probe(Context& ctx, const Model& model, const ReadSequence& read, int64_t available,
             const std::filesystem::path& folder)
    : ctx_(ctx),
      config_(model.config().diagnostics),
      sequences_(std::min(config_.probe_sequences, available)),
      layers_(layers_of(model)),
      logits_(folder / "logits.jsonl") {
    layers_.allocate_layers(ctx, model);
    const Config& config = model.config();
    buffer_ = allocate(ctx, buffer_bytes(config, sequences_));
    tokens_ = Tensor(buffer_.data(), DType::kI32, {passes(), shape().tokens()});
    logit_sums_ = Tensor(buffer_.data() + align_up(tokens_.nbytes()), DType::kF64, logit_sums_shape(config));
    upload_tokens(read);
    if (sequences_ < config_.probe_sequences)
        report_.messages.push_back(fmt::format(
            "the probe reads {} sequences, all of the validation data: diagnostics.probe_sequences = {}",
            sequences_, config_.probe_sequences));
}

void Probe::upload_tokens(const ReadSequence& read) {
    const ReadSequence repeat_last = [&](int64_t i, std::span<int32_t> out) {
        read(std::min(i, sequences_ - 1), out);
    };
    for (int64_t pass = 0; pass < passes(); ++pass) {
        const TokenBatch batch = read_batch(repeat_last, pass * shape().batch, shape());
        upload(ctx_, tokens_.slice(0, pass, 1).flat(), as_tensor(std::span(batch.tokens)));
    }
}

void Probe::open(int64_t step) {
    last_step_ = logits_.open(step);
}

void Probe::run_pass(int64_t pass) {
    const Config& config = layers_.config();
    const int64_t heads = config.model.heads, tiles = logit_sums_.size(2);
    layers_.forward_layers(ctx_, tokens_.slice(0, pass, 1).flat(), [&](int64_t layer, const Block& block) {
        const AttentionInputs in = block.attention().inputs();
        split_ = !in.k_shared.empty();
        attention_logits(
            ctx_, logit_sums_.slice(0, layer, 1).reshape({shape().batch, heads, tiles, kLogitSums}), in);
    });
    std::vector<LogitSums> all(static_cast<size_t>(logit_sums_.numel() / kLogitSums));
    const std::span<double> numbers(&all.front().pairs, all.size() * kLogitSums);
    download(ctx_, as_tensor(numbers).reshape(logit_sums_.shape()), logit_sums_);
    const int64_t counted = std::min(shape().batch, sequences_ - pass * shape().batch);
    for (int64_t layer = 0; layer < config.model.layers; ++layer)
        for (int64_t b = 0; b < counted; ++b)
            for (int64_t head = 0; head < heads; ++head) {
                const auto first = all.begin() + ((layer * shape().batch + b) * heads + head) * tiles;
                std::vector<LogitSums>& sums = sums_[static_cast<size_t>(layer * heads + head)];
                sums.insert(sums.end(), first, first + tiles);
            }
}

std::vector<LogitRecord> Probe::logit_records() const {
    const int64_t heads = layers_.config().model.heads;
    std::vector<LogitRecord> records;
    for (size_t i = 0; i < sums_.size(); ++i) {
        const auto form = static_cast<int64_t>(i);
        records.push_back(logit_record(form / heads, form % heads, sums_[i].data(),
                                       static_cast<int64_t>(sums_[i].size()), sequences_ * shape().time,
                                       split_));
    }
    return records;
}

void Probe::observe(int64_t step) {
    const ModelConfig& model = layers_.config().model;
    sums_.assign(static_cast<size_t>(model.layers * model.heads), {});
    for (int64_t pass = 0; pass < passes(); ++pass) run_pass(pass);
    const std::vector<LogitRecord> records = logit_records();
    std::vector<nlohmann::ordered_json> lines;
    for (const LogitRecord& record : records) lines.push_back(to_json(record, step));
    logits_.append(lines);
    const std::vector<Scalar> scalars = logit_scalars(step, records);
    report_.scalars.insert(report_.scalars.end(), scalars.begin(), scalars.end());
}

Monitor::Report Probe::drain() {
    logits_.sync();
    return poll();
}

}  // namespace pastur
