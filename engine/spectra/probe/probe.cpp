#include "engine/spectra/probe/probe.h"

#include <algorithm>

#include "engine/io/json_text.h"
#include "kernels/attention/attention_logits.h"

namespace pastur {
namespace {

/// The layers of the training model, in the least memory.
Model layers_of(const Model& model, const DiagnosticsConfig& diagnostics) {
    Config config = model.config();
    config.diagnostics = diagnostics;
    config.train.recompute = Recompute::kBlock;
    return Model(config, model.params().compute_dtype(),
                 {std::min(diagnostics.probe_sequences, config.train.micro_batch), config.data.seq_len});
}

Shape logit_sums_shape(const Model& layers) {
    const auto [batch, time] = layers.shape();
    const ModelConfig& model = layers.config().model;
    return {model.layers, batch * model.heads, (time + kLogitTile - 1) / kLogitTile, kLogitSums};
}

int64_t passes_of(int64_t sequences, int64_t batch) {
    return (sequences + batch - 1) / batch;
}

/// Bytes of the buffer for tokens and sums.
int64_t buffer_bytes(const Model& layers, int64_t sequences) {
    const BatchShape& shape = layers.shape();
    return align_up(passes_of(sequences, shape.batch) * shape.tokens() * size_of(DType::kI32)) +
           align_up(logit_sums_shape(layers).numel() * size_of(DType::kF64));
}

}  // namespace

int64_t Probe::planned_bytes(Context& ctx, const Model& model, const DiagnosticsConfig& config) {
    Model layers = layers_of(model, config);
    int64_t bytes = layers.measure_layers(ctx).bytes() + buffer_bytes(layers, config.probe_sequences);
    if (measures(config, Scope::kLatents))
        bytes += LatentSpectra::planned_bytes(ctx, layers, config.probe_sequences * layers.shape().time);
    return bytes;
}

Probe::Probe(Context& ctx, const Model& model, const DiagnosticsConfig& config, const ReadSequence& read,
             int64_t available, const std::filesystem::path& folder)
    : ctx_(ctx), sequences_(std::min(config.probe_sequences, available)), layers_(layers_of(model, config)) {
    layers_.allocate_layers(ctx, model);
    buffer_ = allocate(ctx, buffer_bytes(layers_, sequences_));
    tokens_ = Tensor(buffer_.data(), DType::kI32, {passes(), shape().tokens()});
    logit_sums_ = Tensor(buffer_.data() + align_up(tokens_.nbytes()), DType::kF64, logit_sums_shape(layers_));
    if (measures(config, Scope::kLogits)) logits_ = Records{StepLines(folder / "logits.jsonl")};
    if (measures(config, Scope::kLatents)) {
        latents_ = Records{StepLines(folder / "latents.jsonl")};
        latent_spectra_ = std::make_unique<LatentSpectra>(ctx, layers_, sequences_ * shape().time);
    }
    upload_tokens(read);
    if (sequences_ < config.probe_sequences)
        report_.messages.push_back(fmt::format(
            "the probe reads {} sequences, all of the validation data: diagnostics.probe_sequences = {}",
            sequences_, config.probe_sequences));
}

int64_t Probe::passes() const {
    return passes_of(sequences_, shape().batch);
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
    for (std::optional<Records>* records : {&logits_, &latents_})
        if (*records)
            (*records)->lines.open(step, [&last = (*records)->last_step](const auto& line) {
                if (line.is_object()) last = std::max(last, integer_or_minus_one(line, "step"));
            });
}

void Probe::run_pass(int64_t pass, bool logits, bool latents) {
    const int64_t first = pass * shape().batch, counted = std::min(shape().batch, sequences_ - first);
    const Shape sums = {shape().batch, layers_.config().model.heads, logit_sums_.size(2), kLogitSums};
    layers_.forward_layers(ctx_, tokens_.slice(0, pass, 1).flat(), [&](int64_t layer, const Block& block) {
        const AttentionInputs in = block.attention().inputs();
        split_ = !in.k_shared.empty();
        if (logits) attention_logits(ctx_, logit_sums_.slice(0, layer, 1).reshape(sums), in);
        if (latents) latent_spectra_->keep(layer, block, counted, first * shape().time);
    });
    if (logits) collect_sums(counted);
}

void Probe::collect_sums(int64_t counted) {
    const ModelConfig& model = layers_.config().model;
    const int64_t tiles = logit_sums_.size(2);
    std::vector<LogitSums> all(static_cast<size_t>(logit_sums_.numel() / kLogitSums));
    const std::span<double> numbers(&all.front().pairs, all.size() * kLogitSums);
    download(ctx_, as_tensor(numbers).reshape(logit_sums_.shape()), logit_sums_);
    for (int64_t layer = 0; layer < model.layers; ++layer)
        for (int64_t b = 0; b < counted; ++b)
            for (int64_t head = 0; head < model.heads; ++head) {
                const auto first = all.begin() + ((layer * shape().batch + b) * model.heads + head) * tiles;
                std::vector<LogitSums>& sums = sums_[static_cast<size_t>(layer * model.heads + head)];
                sums.insert(sums.end(), first, first + tiles);
            }
}

void Probe::observe(int64_t step) {
    const ModelConfig& model = layers_.config().model;
    const bool logits = logits_ && logits_->last_step < step,
               latents = latents_ && latents_->last_step < step;
    if (!logits && !latents) return;
    if (latents) write_latents(/*wait=*/true);
    sums_.assign(static_cast<size_t>(model.layers * model.heads), {});
    for (int64_t pass = 0; pass < passes(); ++pass) run_pass(pass, logits, latents);
    if (latents) latent_spectra_->start(step);
    if (logits) write_logits(step);
}

template <typename Record>
void Probe::write(Records& file, int64_t step, const std::vector<Record>& records,
                  const std::vector<Scalar>& scalars) {
    std::vector<nlohmann::ordered_json> objects;
    for (const Record& record : records) objects.push_back(to_json(record, step));
    file.lines.append(objects);
    report_.scalars.insert(report_.scalars.end(), scalars.begin(), scalars.end());
}

void Probe::write_logits(int64_t step) {
    const int64_t heads = layers_.config().model.heads;
    std::vector<LogitRecord> records;
    for (size_t i = 0; i < sums_.size(); ++i) {
        const auto form = static_cast<int64_t>(i);
        records.push_back(logit_record(form / heads, form % heads, sums_[i].data(),
                                       static_cast<int64_t>(sums_[i].size()), sequences_ * shape().time,
                                       split_));
    }
    write(*logits_, step, records, logit_scalars(step, records));
}

void Probe::write_latents(bool wait) {
    const auto measured = latent_spectra_ ? latent_spectra_->take(wait) : std::nullopt;
    if (!measured) return;
    write(*latents_, measured->step, measured->records, latent_scalars(measured->step, measured->records));
    report_.messages.insert(report_.messages.end(), measured->failures.begin(), measured->failures.end());
}

bool Probe::idle() {
    write_latents(/*wait=*/false);
    return !latent_spectra_ || latent_spectra_->idle();
}

Monitor::Report Probe::poll() {
    write_latents(/*wait=*/false);
    return std::exchange(report_, {});
}

Monitor::Report Probe::drain() {
    write_latents(/*wait=*/true);
    for (std::optional<Records>* records : {&logits_, &latents_})
        if (*records) (*records)->lines.sync();
    return std::exchange(report_, {});
}

}  // namespace pastur
