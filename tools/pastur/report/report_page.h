#pragma once
// The page of `pastur report`: one HTML file that holds its script, its style and the numbers of the runs.
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// A file of tools/report/, built in (tools/cmake/PasturAssets.cmake).
struct ReportAsset {
    std::string_view name, text;
};
std::span<const ReportAsset> report_assets();

/// The limit of the page's size.
constexpr size_t kMaxReportBytes = 5'000'000;

/// What a page says beside the files of its runs.
struct ReportText {
    std::string title = {};  ///< empty: the question of the program
    std::string notes = {};  ///< beside run.notes of the runs
    /// That of a study, whose design names the arms (tools/pastur/analysis/analysis.h). null: the runs are analysed here.
    const nlohmann::ordered_json* analysis = nullptr;
    /// Seconds after which the page reloads itself, because its runs go on and it is written again; 0: never.
    double reload_s = 0;
};

/// Reads the run folders and returns the page. If not everything fits, it leaves out steps, but never the
/// first or the last one, and says so. Throws what the readers throw, and (kUsage) for too many runs.
std::string make_report(const std::vector<std::filesystem::path>& folders, const ReportText& text = {});

/// Writes make_report() to a file, which is complete or absent.
void write_report(const std::vector<std::filesystem::path>& folders, const std::filesystem::path& file,
                  const ReportText& text = {});

/// The page's data as JSON of at most about `budget` bytes: {"version", "date", "title", "notes", "flags": {name:
/// meaning}, "runs": [...], "laws": [...], "analysis", "blobs": [base64, ...]}, and "reload" if text.reload_s is not 0. Metrics, onsets and indices of laws
/// refer by index to blobs of pack_numbers(), the curves of laws to little-endian float32, eigenvalues to
/// pack_spectra().
nlohmann::ordered_json report_payload(const std::vector<std::filesystem::path>& folders, size_t budget,
                                      const ReportText& text = {});

}  // namespace pastur
