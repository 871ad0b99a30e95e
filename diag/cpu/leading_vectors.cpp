#include "diag/cpu/leading_vectors.h"

#include <cblas.h>

#include "diag/subspace_iteration.h"

namespace pastur::dense {
namespace {

/// Makes the rows orthonormal by classical Gram-Schmidt, twice.
void orthonormalise_rows(Matrix& x) {
    const int width = narrow(x.columns);
    std::vector<double> along(static_cast<size_t>(x.rows));
    for (int64_t i = 0; i < x.rows; ++i) {
        double* const row = x.values.data() + i * x.columns;
        for (int pass = 0; pass < 2 && i > 0; ++pass) {
            cblas_dgemv(CblasRowMajor, CblasNoTrans, narrow(i), width, 1, x.values.data(), width, row, 1, 0,
                        along.data(), 1);
            cblas_dgemv(CblasRowMajor, CblasTrans, narrow(i), width, -1, x.values.data(), width, along.data(),
                        1, 1, row, 1);
        }
        if (const double length = cblas_dnrm2(width, row, 1); length > 0)
            cblas_dscal(width, 1 / length, row, 1);
    }
}

/// One symmetric matrix.
class CpuSubspaceBlocks final : public SubspaceBlocks {
  public:
    CpuSubspaceBlocks(const Matrix& matrix, const BlockShape& shape)
        : SubspaceBlocks(shape), matrix_(matrix) {}

    void start(const std::vector<double>& block) override { x_ = {block, shape().rows, shape().width}; }

    void orthonormalise() override { orthonormalise_rows(x_); }

    std::vector<double> project() override {
        image_ = multiply(x_, matrix_);
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
            Matrix next = combine(steps[step], multiply(current, matrix_), current, previous);
            previous = std::move(current);
            current = std::move(next);
        }
        x_ = std::move(current);
    }

    std::vector<double> read() override { return x_.values; }

  private:
    static Matrix combine(const FilterStep& step, Matrix image, const Matrix& current,
                          const Matrix& previous) {
        for (size_t i = 0; i < image.values.size(); ++i)
            image.values[i] = step.alpha * image.values[i] + step.beta * current.values[i] +
                              step.gamma * previous.values[i];
        return image;
    }

    const Matrix& matrix_;
    Matrix x_, image_;
};

}  // namespace

Subspace leading_vectors(const SymmetricForm& form, int64_t k) {
    const int64_t n = form.matrix.rows;
    CpuSubspaceBlocks blocks(form.matrix, {1, block_rows(k, n), n});
    Subspace found = leading_eigenvectors(blocks, k).front();
    if (form.p.rows == 0 || found.count == 0) return found;
    Matrix vectors{std::move(found.vectors), found.count, n};
    if (form.root.rows > 0) {
        Matrix turned = form.root;
        turned.transposed = true;
        vectors = multiply(vectors, turned);
    }
    vectors = multiply(vectors, form.p);
    orthonormalise_rows(vectors);
    return {vectors.rows, vectors.columns, std::move(vectors.values)};
}

}  // namespace pastur::dense
