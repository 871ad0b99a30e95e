#pragma once
// Synthetic English stories: a corpus that needs no download.
//
// A story has a setting, a hero, a friend, an animal, a treasure and a problem, which are named once and
// recur to its end. Each setting has words of its own, words follow Zipf's law, and the tense holds
// throughout. So there is something to learn at every range, from agreement to who owned the silver key four
// paragraphs earlier.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace pastur {

/// Story number `index` of the stream `seed`: the same bytes on every machine.
std::string synthetic_story(uint64_t seed, uint64_t index);

/// Writes `documents` stories to a text file, a line `<|doc|>` between them; complete or absent, compressed
/// for a name in .gz or .zst. Calls report(documents written, bytes of text written) for each. Returns the
/// bytes of text. Throws (kIo).
int64_t write_synthetic_corpus(int64_t documents, uint64_t seed, const std::filesystem::path& path,
                               const std::function<void(int64_t, int64_t)>& report);

}  // namespace pastur
