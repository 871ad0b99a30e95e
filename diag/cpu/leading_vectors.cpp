#include "diag/cpu/leading_vectors.h"

#include <cblas.h>

#include <cmath>

#include "diag/subspace_iteration.h"

namespace pastur::dense {
namespace {

/// One operator P^T G P.
class CpuSubspaceBlocks final : public SubspaceBlocks {
  public:
    CpuSubspaceBlocks(const SplitForm& form, const BlockShape& shape)
        : SubspaceBlocks(shape), form_(form), transposed_p_(form.p) {
        transposed_p_.transposed = !form.p.transposed;
    }

    void start(const std::vector<double>& block) override { x_ = {block, shape().rows, shape().width}; }

    /// Classical Gram-Schmidt, twice.
    void orthonormalise() override {
        const int width = narrow(x_.columns);
        std::vector<double> along(static_cast<size_t>(x_.rows));
        for (int64_t i = 0; i < x_.rows; ++i) {
            double* const row = x_.values.data() + i * x_.columns;
            for (int pass = 0; pass < 2 && i > 0; ++pass) {
                cblas_dgemv(CblasRowMajor, CblasNoTrans, narrow(i), width, 1, x_.values.data(), width, row, 1,
                            0, along.data(), 1);
                cblas_dgemv(CblasRowMajor, CblasTrans, narrow(i), width, -1, x_.values.data(), width,
                            along.data(), 1, 1, row, 1);
            }
            if (const double length = cblas_dnrm2(width, row, 1); length > 0)
                cblas_dscal(width, 1 / length, row, 1);
        }
    }

    std::vector<double> project() override {
        image_ = apply(x_);
        Matrix turned = image_;
        turned.transposed = true;
        return multiply(x_, turned).values;
    }

    std::vector<double> rotate(const std::vector<double>& rotations,
                               const std::vector<double>& values) override {
        const Matrix rotation{rotations, x_.rows, x_.rows};
        x_ = multiply(rotation, x_);
        image_ = multiply(rotation, image_);
        std::vector<double> norms, residual(static_cast<size_t>(x_.columns));
        for (int64_t i = 0; i < x_.rows; ++i) {
            const double *const row = x_.values.data() + i * x_.columns, *const image = image_.values.data() +
                                                                                        i * x_.columns;
            for (size_t j = 0; j < residual.size(); ++j)
                residual[j] = image[j] - values[static_cast<size_t>(i)] * row[j];
            norms.push_back(cblas_dnrm2(narrow(x_.columns), residual.data(), 1));
        }
        return norms;
    }

    void filter(const std::vector<FilterStep>& steps) override {
        Matrix previous = std::move(x_);
        Matrix current = combine(steps.front(), image_, previous, previous);
        for (size_t step = 1; step < steps.size(); ++step) {
            Matrix next = combine(steps[step], apply(current), current, previous);
            previous = std::move(current);
            current = std::move(next);
        }
        x_ = std::move(current);
    }

    std::vector<double> read() override { return x_.values; }

  private:
    Matrix apply(const Matrix& block) const {
        const bool has_p = form_.p.rows > 0, has_g = form_.g.rows > 0;
        Matrix image = has_p ? multiply(block, transposed_p_) : block;
        if (has_g) image = multiply(image, form_.g);
        return has_p ? multiply(image, form_.p) : image;
    }

    static Matrix combine(const FilterStep& step, Matrix image, const Matrix& current,
                          const Matrix& previous) {
        for (size_t i = 0; i < image.values.size(); ++i)
            image.values[i] = step.alpha * image.values[i] + step.beta * current.values[i] +
                              step.gamma * previous.values[i];
        return image;
    }

    const SplitForm& form_;
    Matrix transposed_p_, x_, image_;
};

}  // namespace

Subspace leading_vectors(const SplitForm& form, int64_t k) {
    const int64_t width = form.p.rows > 0 ? form.p.op_columns() : form.g.op_rows();
    CpuSubspaceBlocks blocks(form, {1, block_rows(k, width), width});
    return leading_eigenvectors(blocks, k).front();
}

}  // namespace pastur::dense
