#include "engine/spectra/spectra_share.h"

#include <algorithm>

namespace pastur {
namespace {

struct Groups {
    int64_t begin, end;
};
Groups groups_of(const FactorProduct& product, int rank, int ranks) {
    const int64_t groups = product.items / product.group;
    return {groups * rank / ranks, groups * (rank + 1) / ranks};
}

/// Copies [begin, end) of what a factor lists copy by copy.
template <typename Value>
std::vector<Value> copies_of(const std::vector<Value>& all, int64_t copies, int64_t begin, int64_t end) {
    const int64_t each = static_cast<int64_t>(all.size()) / copies;
    return {all.begin() + begin * each, all.begin() + end * each};
}

SpectralMatrix part_of(const SpectralMatrix& whole, const Groups& groups) {
    SpectralMatrix part = whole;
    const FactorProduct& product = whole.product;
    const int64_t first = groups.begin * product.group, last = groups.end * product.group;
    part.items.assign(whole.items.begin() + first, whole.items.begin() + last);
    part.product.items = last - first;
    for (size_t i = 0; i < product.factors.size(); ++i) {
        const Factor& factor = product.factors[i];
        const int64_t begin = factor.shared ? groups.begin : first, end = factor.shared ? groups.end : last;
        const int64_t copies = product.copies(factor);
        part.product.factors[i].sources = copies_of(factor.sources, copies, begin, end);
        part.product.factors[i].gains = copies_of(factor.gains, copies, begin, end);
    }
    return part;
}

/// A spectrum in a row of numbers: its status, the rank that solved it, how many variances it has, those, and
/// its eigenvalues.
struct Row {
    explicit Row(const SpectralMatrix& matrix)
        : factors(matrix.product.factors.size()), values(static_cast<size_t>(matrix.product.count())) {}
    size_t length() const { return 3 + factors + values; }
    size_t factors, values;

    void write(double* row, const Spectrum& spectrum, int rank) const {
        row[0] = static_cast<double>(spectrum.status);
        row[1] = rank;
        row[2] = static_cast<double>(spectrum.variances.size());
        std::copy(spectrum.variances.begin(), spectrum.variances.end(), row + 3);
        std::copy(spectrum.eigenvalues.begin(), spectrum.eigenvalues.end(), row + 3 + factors);
    }
    Spectrum read(const double* row) const {
        Spectrum spectrum;
        spectrum.status = static_cast<Spectrum::Status>(static_cast<int>(row[0]));
        spectrum.variances.assign(row + 3, row + 3 + static_cast<size_t>(row[2]));
        if (spectrum.status == Spectrum::Status::kOk)
            spectrum.eigenvalues.assign(row + 3 + factors, row + length());
        if (spectrum.status == Spectrum::Status::kSolverFailed)
            spectrum.reason = fmt::format("the solver of rank {}", row[1]);
        return spectrum;
    }
};

using Solved = std::vector<std::vector<Spectrum>>;  ///< [matrix][item]

/// solved = the same of all matrices, by one sum in which each number is one rank's and zero elsewhere.
void gather(Context& ctx, Comm& comm, const std::vector<SpectralMatrix>& matrices, const SpectraShare& share,
            Solved& solved) {
    std::vector<size_t> offsets = {0};
    for (const SpectralMatrix& matrix : matrices)
        offsets.push_back(offsets.back() + Row(matrix).length() * matrix.items.size());
    std::vector<double> numbers(offsets.back());
    for (size_t p = 0; p < share.parts.size(); ++p) {
        const auto [m, first] = share.parts[p];
        const Row row(matrices[m]);
        for (size_t i = 0; i < solved[p].size(); ++i)
            row.write(numbers.data() + offsets[m] + (first + i) * row.length(), solved[p][i], comm.rank());
    }
    const Buffer buffer = allocate(ctx, static_cast<int64_t>(numbers.size()) * size_of(DType::kF64));
    const Tensor sum(buffer.data(), DType::kF64, {static_cast<int64_t>(numbers.size())});
    upload(ctx, sum, as_tensor(std::span(numbers)));
    comm.all_reduce_sum(ctx, sum);
    download(ctx, as_tensor(std::span(numbers)), sum);

    Solved all(matrices.size());
    for (size_t m = 0; m < matrices.size(); ++m) {
        const Row row(matrices[m]);
        for (size_t i = 0; i < matrices[m].items.size(); ++i)
            all[m].push_back(row.read(numbers.data() + offsets[m] + i * row.length()));
    }
    solved = std::move(all);
}

}  // namespace

SpectraShare share_of_rank(const std::vector<SpectralMatrix>& matrices, int rank, int ranks) {
    SpectraShare share;
    for (size_t m = 0; m < matrices.size(); ++m) {
        const Groups groups = groups_of(matrices[m].product, rank, ranks);
        if (groups.begin == groups.end) continue;
        share.matrices.push_back(part_of(matrices[m], groups));
        share.parts.push_back({m, static_cast<size_t>(groups.begin * matrices[m].product.group)});
    }
    return share;
}

MeasuredSpectra failed_spectra(const SpectraShare& share, int64_t draws, const std::string& reason) {
    MeasuredSpectra measured;
    for (const SpectralMatrix& matrix : share.matrices)
        measured.spectra.emplace_back(matrix.items.size(),
                                      Spectrum{Spectrum::Status::kSolverFailed, {}, reason});
    measured.shuffled.assign(static_cast<size_t>(draws), measured.spectra);
    return measured;
}

MeasuredSpectra gather_spectra(Context& ctx, Comm& comm, const std::vector<SpectralMatrix>& matrices,
                               const MeasuredSpectra& own) {
    const SpectraShare share = share_of_rank(matrices, comm.rank(), comm.size());
    MeasuredSpectra all = own;
    gather(ctx, comm, matrices, share, all.spectra);
    for (Solved& draw : all.shuffled) gather(ctx, comm, matrices, share, draw);
    return all;
}

}  // namespace pastur
