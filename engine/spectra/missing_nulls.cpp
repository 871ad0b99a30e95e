#include "engine/spectra/missing_nulls.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "engine/config/choices.h"

namespace pastur {

std::string why_no_null(NullKind null, const SpectralMatrix& matrix,
                        const std::vector<SpectralMatrix>& measured) {
    if (null != NullKind::kProduct || matrix.form == SpectralMatrix::Form::kProduct) return "";
    if (matrix.form == SpectralMatrix::Form::kOther)
        return "it is neither a product of independent matrices nor a sum of such products";
    const bool per_head = matrix.items.front().head >= 0;
    const bool complete = std::all_of(matrix.terms.begin(), matrix.terms.end(), [&](const std::string& name) {
        return std::any_of(measured.begin(), measured.end(), [&](const SpectralMatrix& term) {
            return term.name == name && (term.items.front().head >= 0) == per_head;
        });
    });
    if (complete) return "";
    return fmt::format("it needs the variances of {}, which diagnostics.scopes leaves out",
                       fmt::join(matrix.terms, " and "));
}

std::vector<std::string> missing_nulls(const std::vector<NullKind>& nulls,
                                       const std::vector<SpectralMatrix>& measured) {
    std::vector<std::string> lines;
    for (const NullKind null : nulls)
        for (const SpectralMatrix& matrix : measured) {
            const std::string reason = why_no_null(null, matrix, measured);
            if (reason.empty()) continue;
            std::string line = fmt::format("null {}: no law for {}: {}", name_of(null), matrix.name, reason);
            if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(std::move(line));
        }
    return lines;
}

}  // namespace pastur
