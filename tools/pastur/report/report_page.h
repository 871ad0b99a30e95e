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

/// The page is never larger.
constexpr size_t kMaxReportBytes = 5'000'000;

/// Reads the run folders and returns the page. Where not everything fits, steps are left out (the first and
/// the last never) and the page says so. Throws what the readers throw, and (kUsage) when the runs are too
/// many for one page.
std::string make_report(const std::vector<std::filesystem::path>& folders);

/// make_report() into a file, which is complete or absent.
void write_report(const std::vector<std::filesystem::path>& folders, const std::filesystem::path& file);

/// What of the runs goes into the page, as JSON: {"version", "runs": [...], "blobs": [base64, ...]}, at most
/// about `budget` bytes of text. Metrics name blobs of little-endian float32 by index, eigenvalues what
/// pack_spectra() makes.
nlohmann::ordered_json report_payload(const std::vector<std::filesystem::path>& folders, size_t budget);

/// RFC 4648, with padding.
std::string base64(std::span<const std::byte> bytes);

}  // namespace pastur
