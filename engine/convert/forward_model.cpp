#include "engine/convert/forward_model.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "data/parallel.h"
#include "engine/train/evaluate.h"
#include "kernels/cpu/blas_memory.h"
#include "kernels/fill.h"

namespace pastur::convert {
namespace {

using dense::narrow;

/// Tokens of a forward pass: the rows of a batch are in memory in fp64.
constexpr int64_t kBatchTokens = 4096;
/// Rows of a moment that one thread computes: fixed, so the bits do not depend on the number of threads.
constexpr int64_t kBlock = 64;

Config config_for(Config config, int64_t seq_len) {
    config.train.precision = Precision::kFp32;
    config.train.weights = StateFormat::kFp32;
    config.train.recompute = Recompute::kBlock;  // needs the least memory; there is no backward pass
    config.data.seq_len = seq_len;
    config.data.mask_documents = false;  // the separator of the text is not known
    config.train.micro_batch = std::clamp<int64_t>(kBatchTokens / seq_len, 1, config.train.global_batch);
    return config;
}

/// sum += x^T x, both triangles up to rounding, in blocks of rows.
void add_gram(Matrix& sum, const Matrix& x) {
    const int64_t width = x.columns, blocks = (width + kBlock - 1) / kBlock;
    parallel_for(blocks, hardware_threads(), [&](int64_t block) {
        const int64_t first = block * kBlock, count = std::min(kBlock, width - first);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, narrow(count), narrow(width), narrow(x.rows), 1,
                    x.values.data() + first, narrow(width), x.values.data(), narrow(width), 1,
                    row_of(sum, first), narrow(width));
    });
}

void make_symmetric(Matrix& matrix) {
    for (int64_t i = 0; i < matrix.rows; ++i)
        for (int64_t j = 0; j < i; ++j) row_of(matrix, j)[i] = row_of(matrix, i)[j];
}

}  // namespace

ForwardModel::ForwardModel(Context& ctx, const WeightSet& weights, int64_t seq_len) : ctx_(ctx) {
    const Config config = config_for(weights.config, seq_len);
    setup_ = std::make_unique<TrainingSetup>(config, compute_dtype(config.train, ctx));
    Model& model = setup_->model();
    setup_->plan(ctx, TrainingSetup::Purpose::kEvaluate).check_fits(memory_info(ctx), ctx, model);
    setup_->allocate(ctx, TrainingSetup::Purpose::kEvaluate);
    fill_weights(ctx, model.params(), weights.read);
    batch_ = std::make_unique<DeviceBatch>(ctx, model.shape());
    for (int64_t layer = 0; layer < config.model.layers; ++layer)
        gains_.push_back(weights.read(fmt::format("model.layers.{}.input_layernorm.weight", layer)));
    reserve_blas_buffers(2 * hardware_threads());
}

double ForwardModel::loss(const TokenSequences& text) {
    const auto to_the_end = [] { return false; };
    return evaluate(ctx_, *make_single_comm(), setup_->model(), *batch_, text.read, text.count, to_the_end)
        ->loss;
}

void ForwardModel::normalise(Matrix& rows, int64_t layer) const {
    const std::vector<float>& gain = gains_[static_cast<size_t>(layer)];
    const double eps = setup_->config().model.norm_eps;
    for (int64_t t = 0; t < rows.rows; ++t) {
        double* const x = row_of(rows, t);
        double squares = 0;
        for (int64_t c = 0; c < rows.columns; ++c) squares += x[c] * x[c];
        const double scale = 1 / std::sqrt(squares / static_cast<double>(rows.columns) + eps);
        for (int64_t c = 0; c < rows.columns; ++c)
            x[c] *= scale * static_cast<double>(gain[static_cast<size_t>(c)]);
    }
}

void ForwardModel::visit_inputs(const TokenSequences& text, const VisitInputs& visit) {
    Model& model = setup_->model();
    const BatchShape& shape = model.shape();
    const int64_t width = model.config().model.d_model;
    std::vector<float> host(static_cast<size_t>(shape.tokens() * width));
    // The last batch is filled with copies of the last sequence, which are not counted.
    const ReadSequence read = [&](int64_t i, std::span<int32_t> out) {
        text.read(std::min(i, text.count - 1), out);
    };
    for (int64_t first = 0; first < text.count; first += shape.batch) {
        const int64_t tokens = std::min(shape.batch, text.count - first) * shape.time;
        batch_->upload(ctx_, read_batch(read, first, shape));
        model.forward_layers(ctx_, batch_->tokens(), [&](int64_t layer, const Block& block) {
            download(ctx_, as_tensor(std::span(host)).reshape({shape.tokens(), width}), block.input());
            Matrix rows = zeros(tokens, width);
            std::copy_n(host.begin(), rows.values.size(), rows.values.begin());
            normalise(rows, layer);
            visit(layer, rows);
        });
    }
}

std::vector<Matrix> input_moments(ForwardModel& model, const Config& config, const TokenSequences& text) {
    const int64_t width = config.model.d_model;
    std::vector<Matrix> moments(static_cast<size_t>(config.model.layers), zeros(width, width));
    model.visit_inputs(
        text, [&](int64_t layer, const Matrix& x) { add_gram(moments[static_cast<size_t>(layer)], x); });
    for (Matrix& moment : moments) {
        for (double& value : moment.values) value /= static_cast<double>(text.tokens());
        make_symmetric(moment);
    }
    return moments;
}

std::vector<LatentSums> latent_sums(ForwardModel& model, const std::vector<Matrix>& downs,
                                    const TokenSequences& text) {
    std::vector<LatentSums> sums(downs.size());
    for (size_t layer = 0; layer < downs.size(); ++layer) {
        sums[layer].moments.squares.resize(static_cast<size_t>(downs[layer].rows));
        sums[layer].moments.products = zeros(downs[layer].rows, downs[layer].rows);
    }
    model.visit_inputs(text, [&](int64_t layer, const Matrix& x) {
        LatentSums& sum = sums[static_cast<size_t>(layer)];
        Matrix down = downs[static_cast<size_t>(layer)];
        down.transposed = true;
        Matrix squares = dense::multiply(x, down);
        for (int64_t t = 0; t < squares.rows; ++t) {
            double mean = 0;
            for (int64_t i = 0; i < squares.columns; ++i) {
                double& value = row_of(squares, t)[i];
                value *= value;
                sum.moments.squares[static_cast<size_t>(i)] += value;
                mean += value;
            }
            mean /= static_cast<double>(squares.columns);
            sum.rms += std::sqrt(mean);
            sum.rms_squares += mean;
        }
        add_gram(sum.moments.products, squares);
        sum.moments.tokens += squares.rows;
    });
    for (LatentSums& sum : sums) make_symmetric(sum.moments.products);
    return sums;
}

}  // namespace pastur::convert
