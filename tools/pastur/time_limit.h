#pragma once
#include <string>

namespace pastur {

/// Seconds of a length of time as people and Slurm write it: 1800, 90s, 30m (or 30min), 1h30m, 1.5h, 2d,
/// 30:00 (minutes and seconds), 00:30:00, 1-12:00:00 (days before hours). Throws (kUsage) beginning with
/// `where` for anything else, for nothing at all and for more than ten years.
double parse_time_limit(const std::string& text, const std::string& where);

}  // namespace pastur
