#pragma once
#include <string>

namespace pastur {

/// The name of this host; "unknown" if the system does not say.
std::string host_name();

}  // namespace pastur
