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

/// Reads the run folders and returns the page. If not everything fits, it leaves out steps, but never the
/// first or the last one, and says so. `analysis` is that of a study, whose design names the arms; without it the runs
/// are analysed here. Throws what the readers throw, and (kUsage) for too many runs.
std::string make_report(const std::vector<std::filesystem::path>& folders,
                        const nlohmann::ordered_json* analysis = nullptr);

/// Writes make_report() to a file, which is complete or absent.
void write_report(const std::vector<std::filesystem::path>& folders, const std::filesystem::path& file,
                  const nlohmann::ordered_json* analysis = nullptr);

/// The page's data as JSON of at most about `budget` bytes: {"version", "flags": {name: meaning}, "analysis":
/// <analysis.h>, "runs": [...], "laws": [...], "blobs": [base64, ...]}. Metrics and laws refer by index to blobs of little-endian
/// float32, eigenvalues to blobs of pack_spectra().
nlohmann::ordered_json report_payload(const std::vector<std::filesystem::path>& folders, size_t budget,
                                      const nlohmann::ordered_json* analysis = nullptr);

/// RFC 4648, with padding.
std::string base64(std::span<const std::byte> bytes);

}  // namespace pastur
