#pragma once

namespace pastur {

/// Throws (kNoDevice) unless this process may start `count` more threads at the same time. Call it before a
/// library starts that many: OpenMP's runtime ends the program where it cannot.
void check_threads(int count);

}  // namespace pastur
