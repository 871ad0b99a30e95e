// Byte-level BPE of tokenizer.json: ids of the library `tokenizers` in tests/golden/tokenizers, which
// tests/data/check_tokenizers.py wrote; what is refused; long texts.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/synth/synth.h"
#include "data/tokenizer/bpe_merges.h"
#include "data/tokenizer/byte_characters.h"
#include "data/tokenizer/nfc.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/random.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/memory_use.h"
#include "tests/support/source_folder.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using json = nlohmann::ordered_json;
using test::expect_error;

std::string golden(const std::string& name) {
    return test::source_file("tests/golden/tokenizers/" + name);
}
json golden_json(const std::string& name) {
    return json::parse(test::read_bytes(golden(name)));
}
const json& cases() {
    static const json read = golden_json("cases.json");
    return read;
}
std::vector<std::string> shapes() {
    std::vector<std::string> names;
    for (const auto& [name, ids] : cases()["ids"].items()) names.push_back(name);
    return names;
}

class BpeTokenizer : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Shapes, BpeTokenizer, testing::ValuesIn(shapes()),
                         [](const auto& info) { return info.param; });

TEST_P(BpeTokenizer, IdsAreThoseOfTheLibrary) {
    const auto tokenizer = load_tokenizer(golden(GetParam()));
    EXPECT_EQ(tokenizer->kind(), "bpe");
    const auto encoder = tokenizer->make_encoder();
    const json& texts = cases()["texts"];
    for (size_t i = 0; i < texts.size(); ++i)
        for (int time = 0; time < 2; ++time) {  // a cold and a warm cache
            std::vector<int32_t> ids;
            encoder->encode(texts[i].get<std::string>(), ids);
            EXPECT_EQ(ids, cases()["ids"][GetParam()][i].get<std::vector<int32_t>>()) << "text " << i;
        }
}

}  // namespace
}  // namespace pastur
