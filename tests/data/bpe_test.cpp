// Byte-level BPE of tokenizer.json: ids of the library `tokenizers` in tests/golden/tokenizers, which
// tests/data/check_tokenizers.py wrote; what is refused; long texts.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

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

TEST_P(BpeTokenizer, DecodingGivesTheText) {
    const bool reversible = GetParam() != "prefix" && GetParam() != "deepseek" && GetParam() != "qwen2";
    const auto tokenizer = load_tokenizer(golden(GetParam()));
    for (const std::string& text :
         {synthetic_story(1, 7), std::string("\xe4\xbd\xa0\xe5\xa5\xbd \0 \xcc\x81x\r\n\t \n", 16)}) {
        std::vector<int32_t> ids = tokenizer->encode(text);
        ids.push_back(tokenizer->eos_id());
        if (reversible) {
            EXPECT_EQ(tokenizer->decode(ids), text);
        }
    }
    const int32_t size = static_cast<int32_t>(tokenizer->vocab_size());
    for (const int32_t id : {-1, size})
        expect_error(ExitCode::kCorruptData, {std::to_string(id), std::to_string(size)},
                     [&] { tokenizer->decode(std::vector<int32_t>{id}); });
}

TEST(BpeTokenizer, ByteCharactersAreThoseOfGpt2) {
    EXPECT_EQ(character_of_byte('!'), "!");
    EXPECT_EQ(character_of_byte(' '), "\u0120");
    EXPECT_EQ(character_of_byte('\n'), "\u010a");
    EXPECT_EQ(character_of_byte(0xad), "\u0143");
    EXPECT_EQ(character_of_byte(0xff), "\u00ff");
    std::string all, bytes;
    for (int byte = 0; byte < 256; ++byte) {
        all += character_of_byte(static_cast<uint8_t>(byte));
        bytes += static_cast<char>(byte);
    }
    EXPECT_EQ(bytes_of_characters(all), bytes);
    for (const char* text : {" ", "a\n", "\u0144", "\u4f60", "\U0001F600", "\u00ad"})
        EXPECT_EQ(bytes_of_characters(text), std::nullopt) << text;
}

TEST(Nfc, ComposesAndReorders) {
    std::string scratch;
    const auto nfc = [&](const std::string& text) { return std::string(to_nfc(text, scratch)); };
    const std::string same = "caf\u00e9 \u4f60 \uac01 \u0416";
    EXPECT_EQ(to_nfc(same, scratch).data(), same.data());  // no copy
    EXPECT_EQ(nfc("x e\u0301 y"), "x \u00e9 y");
    EXPECT_EQ(nfc("a\u0301\u0323b"), "\u1ea1\u0301b");  // below comes before above
    EXPECT_EQ(nfc("\u1112\u1161\u11ab"), "\ud55c");
    EXPECT_EQ(nfc("\uac00\u11a8z"), "\uac01z");
    EXPECT_EQ(nfc("\uac00\u11a7"), "\uac00\u11a7");
    EXPECT_EQ(nfc("\u212b\uf900"), "\u00c5\u8c48");
    EXPECT_EQ(nfc("a\U00010f4b\u0301"), "a\U00010f4b\u0301");  // of Unicode 11.0: combines with nothing
    std::string marks = "a";
    for (int i = 0; i < 200'000; ++i) marks += i % 2 ? "\u0323" : "\u0301";
    EXPECT_EQ(nfc(marks).size(), marks.size() - 1 + 3 - 2);  // not quadratic
}

// --- merging ---

/// The definition: merges the leftmost pair of the lowest rank until there is none.
std::vector<int32_t> merge_by_definition(const std::vector<BpeMerge>& merges, std::string_view bytes) {
    std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>> table;
    for (size_t rank = 0; rank < merges.size(); ++rank)
        table[{merges[rank].left, merges[rank].right}] = {rank, merges[rank].merged};
    std::map<size_t, int32_t> ids;                   // by place
    std::set<std::pair<size_t, size_t>> candidates;  // rank, place
    const auto find = [&](auto at) {
        const auto next = at == ids.end() ? at : std::next(at);
        return next == ids.end() ? table.end() : table.find({at->second, next->second});
    };
    const auto change = [&](auto at, bool add) {
        const auto found = find(at);
        if (found == table.end()) return;
        const std::pair<size_t, size_t> candidate{found->second.first, at->first};
        if (add)
            candidates.insert(candidate);
        else
            candidates.erase(candidate);
    };
    for (size_t i = 0; i < bytes.size(); ++i) ids[i] = static_cast<uint8_t>(bytes[i]);
    for (auto at = ids.begin(); at != ids.end(); ++at) change(at, true);
    while (!candidates.empty()) {
        const auto at = ids.find(candidates.begin()->second), next = std::next(at);
        const int32_t merged = find(at)->second.second;
        if (at != ids.begin()) change(std::prev(at), false);
        change(at, false);
        change(next, false);
        at->second = merged;
        ids.erase(next);
        change(at, true);
        if (at != ids.begin()) change(std::prev(at), true);
    }
    std::vector<int32_t> result;
    for (const auto& [place, id] : ids) result.push_back(id);
    return result;
}

/// Merges of random tokens over the first letters, in random order: ranks need not grow with the length.
std::vector<BpeMerge> random_merges(SplitMix& random, int letters, int count, size_t longest) {
    std::vector<std::string> texts(256);
    std::map<std::string, int32_t> ids;
    std::vector<int32_t> usable;
    for (int i = 0; i < letters; ++i) {
        const int32_t id = 'a' + i;
        texts[static_cast<size_t>(id)] = static_cast<char>(id);
        ids[texts[static_cast<size_t>(id)]] = id;
        usable.push_back(id);
    }
    std::vector<BpeMerge> merges;
    while (std::ssize(merges) < count) {
        const int32_t left = usable[random.below(usable.size())], right = usable[random.below(usable.size())];
        const std::string text = texts[static_cast<size_t>(left)] + texts[static_cast<size_t>(right)];
        if (text.size() > longest) continue;
        const auto [found, is_new] = ids.emplace(text, static_cast<int32_t>(texts.size()));
        if (is_new) {
            texts.push_back(text);
            usable.push_back(found->second);
        }
        merges.push_back({left, right, found->second});
    }
    for (size_t i = merges.size(); i > 1; --i) std::swap(merges[i - 1], merges[random.below(i)]);
    return merges;
}

std::array<int32_t, 256> bytes_themselves() {
    std::array<int32_t, 256> ids{};
    for (int32_t i = 0; i < 256; ++i) ids[static_cast<size_t>(i)] = i;
    return ids;
}

TEST(BpeMerges, FollowTheDefinition) {
    SplitMix random(5);
    BpeMerges::Workspace workspace;
    for (int i = 0; i < 60; ++i) {
        const int letters = 1 + static_cast<int>(random.below(4));
        const auto merges = random_merges(random, letters, 1 + static_cast<int>(random.below(40)), 12);
        const BpeMerges bpe(bytes_themselves(), merges);
        for (const size_t n : {size_t{1}, size_t{2}, size_t{63}, size_t{64}, size_t{65}, size_t{400},
                               i % 10 == 0 ? size_t{150'000} : size_t{0}}) {
            std::string text(n, 'a');
            for (char& c : text) c = static_cast<char>('a' + random.below(static_cast<uint64_t>(letters)));
            std::vector<int32_t> ids;
            bpe.encode(text, workspace, ids);
            ASSERT_EQ(ids, merge_by_definition(merges, text)) << "case " << i << ", " << n << " bytes";
        }
    }
}

// Tokens of 2^k letters up to four times a window: windows are doubled until two of them have one in common.
TEST(BpeMerges, ATokenMayBeLongerThanAWindow) {
    std::vector<BpeMerge> merges = {{'a', 'a', 256}};
    for (int32_t k = 1; k < 17; ++k) merges.push_back({255 + k, 255 + k, 256 + k});
    const BpeMerges bpe(bytes_themselves(), merges);
    BpeMerges::Workspace workspace;
    for (const size_t n : {size_t{32 << 10}, size_t{(32 << 10) + 1}, size_t{400'001}, size_t{1} << 19}) {
        std::vector<int32_t> ids, expected;
        bpe.encode(std::string(n, 'a'), workspace, ids);
        for (size_t k = 18, left = n; k-- > 0;)
            for (; left >= size_t{1} << k; left -= size_t{1} << k)
                expected.push_back(k == 0 ? 'a' : 255 + static_cast<int32_t>(k));
        EXPECT_EQ(ids, expected) << n;
    }
}

// A document is encoded as it is: nothing depends on where it could be cut, and memory is that of the ids.
TEST(BpeTokenizer, LongTextsTakeLinearTimeAndLittleMemory) {
    const auto gpt2 = load_tokenizer(golden("gpt2")), llama3 = load_tokenizer(golden("llama3"));
    SplitMix random(2);
    std::string letters(3'000'000, ' ');
    for (char& c : letters) c = static_cast<char>('a' + random.below(26));
    for (const auto& tokenizer : {gpt2, llama3})
        for (const std::string& text :
             {letters, std::string(3'000'000, 'a'), std::string(3'000'000, ' ') + "x"}) {
            std::vector<int32_t> ids;
            const test::Cost cost = test::cost_of([&] { ids = tokenizer->encode(text); });
            EXPECT_EQ(tokenizer->decode(ids), text);
            EXPECT_LT(cost.seconds, 5);
            if (!test::sanitized()) {
                EXPECT_LT(cost.bytes >> 20, 8 + 3 * static_cast<int64_t>(sizeof(int32_t) * ids.size() >> 20));
            }
        }
}

// --- what is refused, and the end of documents ---

class BpeFiles : public testing::Test {
  protected:
    std::string write(const json& tokenizer, const std::string& name = "tokenizer.json") {
        test::write_bytes(folder_.path() / name, tokenizer.dump());
        return folder_.path() / "tokenizer.json";
    }
    void refuses(const std::string& pointer, const json& value, std::initializer_list<std::string> parts) {
        json changed = gpt2_;
        changed[json::json_pointer(pointer)] = value;
        const std::string path = write(changed);
        expect_error(ExitCode::kCorruptData, parts, [&] { load_tokenizer(path); });
        try {
            load_tokenizer(path);
        } catch (const Error& error) {
            EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos) << error.what();
        }
    }
    test::TempFolder folder_;
    json gpt2_ = golden_json("gpt2/tokenizer.json");
};

TEST_F(BpeFiles, NamesWhatIsNotSupported) {
    refuses("/model/type", "Unigram", {"model.type", "BPE", "Unigram"});
    refuses("/model/dropout", 0.1, {"model.dropout", "null or 0"});
    refuses("/model/byte_fallback", true, {"model.byte_fallback", "false"});
    refuses("/model/end_of_word_suffix", "</w>", {"model.end_of_word_suffix", "empty"});
    refuses("/model/vocab/new", 1 << 19, {"model.vocab[\"new\"]", "an id from 0"});
    refuses("/model/vocab/new", 5, {"model.vocab", "one token of id 5"});
    refuses("/model/merges/0", "a b c", {"model.merges[0]", "two tokens"});
    refuses("/model/merges/1", {"a"}, {"model.merges[1]", "two tokens"});
    refuses("/model/merges/2", {"a", "zzzz"}, {"model.merges[2]", "lacks \"zzzz\""});
    refuses("/normalizer", {{"type", "NFKC"}}, {"normalizer", "NFC or null, not NFKC"});
    refuses("/pre_tokenizer", {{"type", "Whitespace"}}, {"pre_tokenizer", "not Whitespace"});
    refuses("/pre_tokenizer", nullptr, {"pre_tokenizer", "ByteLevel"});
    refuses("/decoder", {{"type", "Metaspace"}}, {"decoder", "ByteLevel, not Metaspace"});
    refuses("/truncation", {{"max_length", 512}}, {"truncation", "null"});
    refuses("/padding", {{"strategy", "BatchLongest"}}, {"padding", "null"});
    refuses("/added_tokens/0/single_word", true, {"added_tokens[0].single_word", "false"});
    refuses("/added_tokens/0/id", 7, {"added_tokens[0].id", "<|endoftext|>"});
    const json split = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Removed"}};
    refuses("/pre_tokenizer", split, {"pre_tokenizer.behavior", "Isolated, not Removed"});
    const json level = {{"type", "ByteLevel"}};
    refuses("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {level, split}}},
            {"pre_tokenizer.pretokenizers[1]", "nothing after ByteLevel"});
    for (const char* damaged : {"{", "{}", "{\"model\": 3}", "{\"model\":{\"vocab\":{},\"merges\":[]}}"}) {
        test::write_bytes(folder_.path() / "tokenizer.json", damaged);
        expect_error(ExitCode::kCorruptData, {"tokenizer.json"},
                     [&] { load_tokenizer(folder_.path() / "tokenizer.json"); });
    }
}

// As in the library: neighbours of a byte that is left out are merged, and an unknown token stands for each byte.
TEST_F(BpeFiles, BytesWithoutATokenAreLeftOutOrUnknown) {
    json& vocab = gpt2_["model"]["vocab"];
    vocab["<unk>"] = vocab["\u0105"];  // the byte 5
    vocab.erase("\u0105");
    const auto encode = [&](const std::string& text) { return load_tokenizer(write(gpt2_))->encode(text); };
    const std::vector<int32_t> the = encode("the");
    EXPECT_EQ(encode("\x05the\x05"), the);
    EXPECT_EQ(encode("\x05"), std::vector<int32_t>());
    EXPECT_EQ(encode(std::string(100'000, '\x05')), std::vector<int32_t>());
    gpt2_["model"]["unk_token"] = "<unk>";
    std::vector<int32_t> expected(2, vocab["<unk>"]);
    EXPECT_EQ(encode("\x05\x05"), expected);
    refuses("/model/fuse_unk", true, {"model.fuse_unk", "false"});
    refuses("/model/unk_token", "nothing", {"model.unk_token", "a token of model.vocab"});
}

TEST_F(BpeFiles, NamesPatternsThatMayDiffer) {
    const auto pattern = [&](const std::string& regex, const std::string& why) {
        refuses("/pre_tokenizer",
                {{"type", "Sequence"},
                 {"pretokenizers",
                  {{{"type", "Split"},
                    {"pattern", {{"Regex", regex}}},
                    {"behavior", "Isolated"},
                    {"invert", false}},
                   {{"type", "ByteLevel"}}}}},
                {"pre_tokenizer.pretokenizers[0]", why});
    };
    pattern("a*", "matches empty text");
    pattern("(a", "without its end");
    pattern("a)", "`)`");
    pattern("\\w+", "`\\w`");
    pattern("\\p{Han}", "\\p{Han}");
    pattern("[a[b]]", "`[` in brackets");
    pattern("[a&&b]", "`&&`");
    pattern("[a", "no end");
    pattern("(?<=a)b", "`(?<=`");
    pattern("(?:a+)+b", "a repetition of repetitions");
    pattern("a*a*a*a*b", "unlimited repetitions");
    pattern("a{2}+", "`+` after a repetition");
    pattern("^a", "`^`");
    pattern("a.b", "`.`");
    pattern("a\\", "no end");
    pattern("[b-a]", "the pattern is wrong");
    pattern(std::string(5000, 'a'), "bytes");
}

TEST_F(BpeFiles, ALiteralPatternMatchesItself) {
    gpt2_["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"String", "(+"}}}, {"behavior", "Isolated"}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    // A merge that could cross the border of the matches.
    gpt2_["model"]["vocab"]["+b"] = gpt2_["model"]["vocab"].size();
    gpt2_["model"]["merges"].insert(gpt2_["model"]["merges"].begin(), "+ b");
    const auto tokenizer = load_tokenizer(write(gpt2_));
    EXPECT_EQ(tokenizer->encode("a+b(+b"),
              (std::vector<int32_t>{tokenizer->encode("a")[0], tokenizer->encode("+b")[0],
                                    tokenizer->encode("(")[0], tokenizer->encode("+")[0],
                                    tokenizer->encode("b")[0]}));
}

TEST_F(BpeFiles, TheEndOfADocumentIsFound) {
    const auto eos = [&] { return load_tokenizer(folder_.path() / "tokenizer.json")->eos_id(); };
    const json& vocab = gpt2_["model"]["vocab"];
    write(gpt2_);
    EXPECT_EQ(eos(), vocab["<|endoftext|>"]);  // the only usual one
    write({{"eos_token_id", {65, 66}}}, "config.json");
    EXPECT_EQ(eos(), 65);
    write({{"eos_token_id", 70}, {"transformers_version", "5"}}, "generation_config.json");
    EXPECT_EQ(eos(), 70);
    write({{"eos_token", {{"content", "a"}}}}, "special_tokens_map.json");
    EXPECT_EQ(eos(), vocab["a"]);
    write({{"eos_token", nullptr}, {"bos_token", "x"}}, "tokenizer_config.json");
    EXPECT_EQ(eos(), vocab["a"]);
    // What is copied names the end by itself, and keeps the rest.
    const auto files = load_tokenizer(folder_.path() / "tokenizer.json")->files();
    ASSERT_EQ(files.size(), 2u);
    EXPECT_EQ(json::parse(files[0].bytes), gpt2_);
    EXPECT_EQ(files[1].name, "tokenizer_config.json");
    EXPECT_EQ(json::parse(files[1].bytes), (json{{"eos_token", "a"}, {"bos_token", "x"}}));
    write({{"eos_token", "b"}}, "tokenizer_config.json");
    EXPECT_EQ(eos(), vocab["b"]);
    write({{"eos_token", "nothing"}}, "tokenizer_config.json");
    expect_error(ExitCode::kCorruptData, {"tokenizer_config.json", "eos_token", "\"nothing\" is not a token"},
                 eos);
    write({{"eos_token", 3}}, "tokenizer_config.json");
    expect_error(ExitCode::kCorruptData, {"tokenizer_config.json", "eos_token", "expected a token"}, eos);
    write(json::array(), "tokenizer_config.json");
    expect_error(ExitCode::kCorruptData, {"tokenizer_config.json", "expected a JSON object"}, eos);
    std::filesystem::remove(folder_.path() / "tokenizer_config.json");
    std::filesystem::remove(folder_.path() / "special_tokens_map.json");
    write({{"eos_token_id", 1 << 20}}, "generation_config.json");
    expect_error(ExitCode::kCorruptData, {"generation_config.json", "eos_token_id", "1048576"}, eos);
    std::filesystem::remove(folder_.path() / "generation_config.json");
    std::filesystem::remove(folder_.path() / "config.json");
    gpt2_["model"]["vocab"]["</s>"] = vocab.size();  // a second usual one
    write(gpt2_);
    expect_error(ExitCode::kCorruptData, {"tokenizer.json", "tokenizer_config.json", "eos_token"}, eos);
}

}  // namespace
}  // namespace pastur
