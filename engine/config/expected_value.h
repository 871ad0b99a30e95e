#pragma once
#include <string>

#include "engine/config/config_fields.h"

namespace pastur {

/// What the field takes, for messages and the manual: "a number above 0", "an integer from 1 to 65536", "one of
/// \"cosine\", \"wsd\"", "true or false", "text".
std::string expected_value(const Field& field);

}  // namespace pastur
