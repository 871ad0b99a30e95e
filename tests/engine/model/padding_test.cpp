// Weights that are stored with padding: the padding stays zero and is visible to GEMMs only.
#include <gtest/gtest.h>

#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/optimizer/optimizer.h"
#include "kernels/fill.h"
#include "kernels/reduce.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

/// ffn = 10, stored as 64.
class Padding : public OpTest<VariantCase> {
  protected:
    Padding()
        : config_(tiny_config(shape().attention, shape().model)),
          model_(config_, ctx(), dtype(), {2, 5}),
          optimizer_(config_.train, params()) {
        optimizer_.allocate(ctx());
    }
    Parameters& params() { return model_.model().params(); }

    /// The number of nonzero numbers in a flat buffer that belong to no parameter.
    int64_t nonzero_padding(const Tensor& flat) {
        std::vector<double> values = values_of(ctx(), flat);
        for (const Param& param : params().table().params())
            for (int64_t row = 0; row < (param.is_matrix() ? param.shape[0] : 1); ++row)
                std::fill_n(values.begin() + param.offset + row * param.stored_columns,
                            param.shape[param.shape.rank() - 1], 0.0);
        return std::count_if(values.begin(), values.end(), [](double value) { return value != 0; });
    }
    void train(int64_t steps) {
        const Buffer buffer = allocate(ctx(), size_of(DType::kF64));
        const Tensor squares(buffer.data(), DType::kF64, {1});
        const TokenBatch batch = random_batch(random_, {2, 5}, config_.model.vocab);
        for (int64_t step = 0; step < steps; ++step) {
            model_.forward_backward(batch);
            model_.forward_backward(batch, Update::kAccumulate);
            sum_of_squares(ctx(), squares, params().flat_grad(), Update::kAssign);
            optimizer_.step(ctx(), step, 1e-2, squares);
        }
    }

    Config config_;
    ModelUnderTest model_;
    Optimizer optimizer_;
};

TEST_P(Padding, StaysZeroInTraining) {
    params().initialise(ctx(), 3);
    EXPECT_GT(params().table().total_elements(), params().table().count() + 1000) << "there is padding";
    EXPECT_EQ(nonzero_padding(params().flat_master()), 0);
    train(4);
    EXPECT_EQ(nonzero_padding(params().flat_grad()), 0);
    EXPECT_EQ(nonzero_padding(params().flat_master()), 0);
    // The check itself finds padding that is not zero.
    fill(ctx(), params().flat_master(), 1.0f);
    EXPECT_GT(nonzero_padding(params().flat_master()), 1000);
}

TEST_P(Padding, ChangesNoInitialWeight) {
    params().initialise(ctx(), 3);
    for (const Param& param : params().table().params()) {
        if (param.stored() == param.shape.numel() || !param.is_matrix()) continue;
        // The same name in a table without padding: numbers depend on the name and the index within the
        // matrix.
        Parameters dense(DType::kF32);
        dense.table().add_matrix(param.name, param.shape[0], param.shape[1]);
        dense.table().layout();
        dense.allocate(ctx(), false);
        dense.initialise(ctx(), 3);
        EXPECT_EQ(values_of(ctx(), params().master(param)),
                  values_of(ctx(), dense.master(dense.table().params()[0])))
            << param.name;
    }
}

TEST_P(Padding, IsNotInCheckpoints) {
    params().initialise(ctx(), 3);
    train(2);
    const TempFolder folder;
    write_checkpoint(folder.path(), ctx(), config_, params(), optimizer_, {2, 20, 0, 77});
    const NamedValues weights = model_.weights();
    EXPECT_EQ(std::ssize(weights.at("model.layers.0.mlp.down_proj.weight")), 12 * 10);
    const auto moments = [&] {
        NamedValues named;
        for (const Param& param : params().table().params())
            named[param.name] = values_of(ctx(), optimizer_.value(param, "exp_avg_sq"));
        return named;
    };
    const NamedValues second = moments();
    train(1);
    EXPECT_NE(model_.weights(), weights);
    TrainState state;
    read_checkpoint_files(folder.path(), ctx(), params(), optimizer_, state);
    EXPECT_EQ(model_.weights(), weights);
    EXPECT_EQ(moments(), second);
    EXPECT_EQ(nonzero_padding(params().flat_master()), 0);
}

INSTANTIATE_TEST_SUITE_P(Model, Padding, every_target(every_attention()), case_name<VariantCase>);

}  // namespace
}  // namespace pastur::test
