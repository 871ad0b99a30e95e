// How a solver reports an error of its library or of its device.
#include <gtest/gtest.h>

#include "diag/spectrum.h"
#include "tests/support/expect_error.h"

namespace pastur {
namespace {

FactorProduct three_items_of_two_factors() {
    FactorProduct product;
    product.items = 3;
    product.factors.resize(2);
    return product;
}

TEST(SpectrumSolver, FlagsEverySpectrumThatItsLibraryCouldNotCompute) {
    const FactorProduct product = three_items_of_two_factors();
    const auto spectra = solve_or_flag(product, [](std::vector<Spectrum>& mine) {
        mine[0].eigenvalues = {1};  // half done
        fail(ExitCode::kOther, "cusolverDnXsyevd: cuSOLVER status 7");
    });
    ASSERT_EQ(spectra.size(), 3u);
    for (const Spectrum& spectrum : spectra) {
        EXPECT_EQ(spectrum.status, Spectrum::Status::kSolverFailed);
        EXPECT_EQ(spectrum.reason, "cusolverDnXsyevd: cuSOLVER status 7");
        EXPECT_TRUE(spectrum.eigenvalues.empty());
        EXPECT_EQ(spectrum.variances.size(), 2u);
    }
}

TEST(SpectrumSolver, PassesOnThatTheDeviceIsMissing) {
    test::expect_error(ExitCode::kNoDevice, {"cudaSetDevice"}, [] {
        solve_or_flag(three_items_of_two_factors(), [](std::vector<Spectrum>&) {
            fail(ExitCode::kNoDevice, "cudaSetDevice: no CUDA-capable device is detected");
        });
    });
}

TEST(SpectrumSolver, KeepsWhatWasSolved) {
    const auto spectra = solve_or_flag(three_items_of_two_factors(), [](std::vector<Spectrum>& mine) {
        for (Spectrum& spectrum : mine) spectrum.eigenvalues = {4, 1};
    });
    ASSERT_EQ(spectra.size(), 3u);
    EXPECT_EQ(spectra[2].status, Spectrum::Status::kOk);
    EXPECT_EQ(spectra[2].eigenvalues, (std::vector<double>{4, 1}));
}

}  // namespace
}  // namespace pastur
