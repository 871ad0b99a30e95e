#include "engine/spectra/spectra_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace pastur {
namespace {

struct Groups {
    int64_t begin, end;
};
Groups groups_of(const FactorProduct& product, int rank, int ranks) {
    const int64_t groups = product.items / product.group;
    return {groups * rank / ranks, groups * (rank + 1) / ranks};
}

/// Copies [begin, end) of a list that holds the same number of values for each copy of a factor.
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
    part.product.first_group = product.first_group + groups.begin;
    for (size_t i = 0; i < product.factors.size(); ++i) {
        const Factor& factor = product.factors[i];
        const int64_t begin = factor.shared ? groups.begin : first, end = factor.shared ? groups.end : last;
        const int64_t copies = product.copies(factor);
        part.product.factors[i].sources = copies_of(factor.sources, copies, begin, end);
        part.product.factors[i].row_gains = copies_of(factor.row_gains, copies, begin, end);
        part.product.factors[i].gains = copies_of(factor.gains, copies, begin, end);
    }
    return part;
}

/// A spectrum as a row of numbers: its status, the number of its variances, the variances, the eigenvalues, the number
/// of its leading vectors, the leading vectors. What a spectrum lacks is zero in the row.
struct Row {
    explicit Row(const SpectralMatrix& matrix)
        : factors(matrix.product.factors.size()),
          values(static_cast<size_t>(matrix.product.count())),
          width(static_cast<size_t>(matrix.product.dims().front())),
          vectors(static_cast<size_t>(matrix.product.leading_vectors) * width) {}
    size_t length() const { return 3 + factors + values + vectors; }
    size_t factors, values, width, vectors;

    void write(double* row, const Spectrum& spectrum) const {
        row[0] = static_cast<double>(spectrum.status);
        row[1] = static_cast<double>(spectrum.variances.size());
        std::copy(spectrum.variances.begin(), spectrum.variances.end(), row + 2);
        row += 2 + factors;
        std::copy(spectrum.eigenvalues.begin(), spectrum.eigenvalues.end(), row);
        row[values] = static_cast<double>(spectrum.leading.count);
        std::copy(spectrum.leading.vectors.begin(), spectrum.leading.vectors.end(), row + values + 1);
    }
    Spectrum read(const double* row) const {
        Spectrum spectrum;
        spectrum.status = static_cast<Spectrum::Status>(static_cast<int>(row[0]));
        spectrum.variances.assign(row + 2, row + 2 + static_cast<size_t>(row[1]));
        if (spectrum.status != Spectrum::Status::kOk) return spectrum;
        row += 2 + factors;
        spectrum.eigenvalues.assign(row, row + values);
        row += values;
        if (const auto count = static_cast<size_t>(row[0]); count > 0)
            spectrum.leading = {
                static_cast<int64_t>(count), static_cast<int64_t>(width), {row + 1, row + 1 + count * width}};
        return spectrum;
    }
};

using Solved = MeasuredSpectra::Solved;

/// numbers = their sum over ranks.
void all_reduce(Context& ctx, Comm& comm, std::vector<double>& numbers) {
    const Buffer buffer = allocate(ctx, static_cast<int64_t>(numbers.size()) * size_of(DType::kF64));
    const Tensor sum(buffer.data(), DType::kF64, {static_cast<int64_t>(numbers.size())});
    upload(ctx, sum, as_tensor(std::span(numbers)));
    comm.all_reduce_sum(ctx, sum);
    download(ctx, as_tensor(std::span(numbers)), sum);
}

/// Each distinct reason of the share's failures, joined and cut to kReasonBytes.
std::string reasons_of(const Solved& solved) {
    std::set<std::string> reasons;
    for (const auto& matrix : solved)
        for (const Spectrum& spectrum : matrix)
            if (spectrum.status == Spectrum::Status::kSolverFailed) reasons.insert(spectrum.reason);
    return fmt::format("{}", fmt::join(reasons, "; ")).substr(0, kReasonBytes);
}

/// The text of every rank, by rank: each character is one rank's number and zero on the others.
std::vector<std::string> gather_texts(Context& ctx, Comm& comm, const std::string& own) {
    std::vector<double> characters(static_cast<size_t>(comm.size() * kReasonBytes));
    for (size_t i = 0; i < own.size(); ++i)
        characters[static_cast<size_t>(comm.rank() * kReasonBytes) + i] = static_cast<unsigned char>(own[i]);
    all_reduce(ctx, comm, characters);
    std::vector<std::string> texts(static_cast<size_t>(comm.size()));
    for (size_t i = 0; i < characters.size(); ++i)
        if (characters[i] != 0)
            texts[i / kReasonBytes] += static_cast<char>(static_cast<unsigned char>(characters[i]));
    return texts;
}

/// Gives the failed spectra their reasons. The statuses, which are equal on every rank, decide whether the
/// ranks exchange any.
void gather_reasons(Context& ctx, Comm& comm, const std::vector<SpectralMatrix>& matrices, const Solved& own,
                    Solved& all) {
    const auto failed = [](const Spectrum& spectrum) {
        return spectrum.status == Spectrum::Status::kSolverFailed;
    };
    if (std::none_of(all.begin(), all.end(), [&](const std::vector<Spectrum>& matrix) {
            return std::any_of(matrix.begin(), matrix.end(), failed);
        }))
        return;
    const std::vector<std::string> reasons = gather_texts(ctx, comm, reasons_of(own));
    for (int rank = 0; rank < comm.size(); ++rank) {
        const SpectraShare share = share_of_rank(matrices, rank, comm.size());
        for (size_t p = 0; p < share.parts.size(); ++p)
            for (size_t i = 0; i < share.matrices[p].items.size(); ++i) {
                Spectrum& spectrum = all[share.parts[p].matrix][share.parts[p].first + i];
                if (failed(spectrum))
                    spectrum.reason = fmt::format("rank {}: {}", rank, reasons[static_cast<size_t>(rank)]);
            }
    }
}

/// All matrices' spectra from the ranks' own ones, by one sum in which each number is one rank's and zero on
/// the others.
Solved gather(Context& ctx, Comm& comm, const std::vector<SpectralMatrix>& matrices, const Solved& own) {
    const SpectraShare share = share_of_rank(matrices, comm.rank(), comm.size());
    const Spectrum missing{Spectrum::Status::kSolverFailed};
    std::vector<size_t> offsets = {0};
    for (const SpectralMatrix& matrix : matrices)
        offsets.push_back(offsets.back() + Row(matrix).length() * matrix.items.size());
    std::vector<double> numbers(offsets.back());
    for (size_t p = 0; p < share.parts.size(); ++p) {
        const auto [m, first] = share.parts[p];
        const Row row(matrices[m]);
        for (size_t i = 0; i < share.matrices[p].items.size(); ++i)
            row.write(numbers.data() + offsets[m] + (first + i) * row.length(),
                      p < own.size() ? own[p][i] : missing);
    }
    all_reduce(ctx, comm, numbers);

    Solved all(matrices.size());
    for (size_t m = 0; m < matrices.size(); ++m) {
        const Row row(matrices[m]);
        for (size_t i = 0; i < matrices[m].items.size(); ++i)
            all[m].push_back(row.read(numbers.data() + offsets[m] + i * row.length()));
    }
    gather_reasons(ctx, comm, matrices, own, all);
    return all;
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

MeasuredSpectra failed_spectra(const SpectraShare& share, const std::vector<FactorDraw>& draws,
                               const std::string& reason) {
    MeasuredSpectra measured;
    for (const SpectralMatrix& matrix : share.matrices)
        measured.spectra.emplace_back(matrix.items.size(),
                                      Spectrum{Spectrum::Status::kSolverFailed, {}, reason});
    for (const FactorDraw& draw : draws) measured.drawn.push_back({draw.kind, measured.spectra});
    return measured;
}

MeasuredSpectra gather_spectra(Context& ctx, Comm& comm, const std::vector<SpectralMatrix>& matrices,
                               const MeasuredSpectra& own, const std::vector<FactorDraw>& draws) {
    MeasuredSpectra all{gather(ctx, comm, matrices, own.spectra)};
    for (size_t i = 0; i < draws.size(); ++i)
        all.drawn.push_back({draws[i].kind, gather(ctx, comm, matrices,
                                                   i < own.drawn.size() ? own.drawn[i].spectra : Solved())});
    return all;
}

}  // namespace pastur
