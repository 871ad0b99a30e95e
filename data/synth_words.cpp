#include "data/synth_words.h"

namespace pastur {
namespace {

std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> words;
    while (true) {
        const size_t begin = text.find_first_not_of(" \n");
        if (begin == text.npos) return words;
        text.remove_prefix(begin);
        const size_t end = std::min(text.find_first_of(" \n"), text.size());
        words.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
}

std::vector<Topic> topics() {
    const auto topic = [](std::string_view places, std::string_view roles, std::string_view nouns) {
        return Topic{split(places), split(nouns), split(roles)};
    };
    return {
        topic("harbour beach lighthouse pier island bay cove shipyard cliff",
              "sailor fisher captain diver boatbuilder pilot",
              "boat wave sail net ship rope anchor shell fish gull oar mast deck tide barrel crab hull "
              "rudder hook wharf "
              "lantern whale reef pebble dune seal buoy raft keel harpoon cork starfish compass knot flag "
              "cabin"),
        topic("forest clearing glade hut grove thicket valley trail hollow",
              "woodcutter hunter forester herbalist trapper scout",
              "tree leaf branch path fox owl deer root mushroom bird log nest berry axe squirrel wolf moss "
              "fern acorn bear "
              "hedgehog oak pine bush stump trunk twig feather badger raven beetle spider burrow shadow stag "
              "birch"),
        topic("farm barn field orchard stable meadow pasture mill granary",
              "farmer shepherd miller ploughman milkmaid beekeeper",
              "cow horse sheep hen field fence cart goat bucket egg plough seed wheel sack pig duck apple "
              "pear lamb gate "
              "saddle rooster calf hive tractor haystack scythe shovel trough foal goose basket cherry "
              "pumpkin turnip"),
        topic("market square inn workshop bridge townhall fountain tower shop",
              "merchant tailor baker innkeeper potter guard",
              "street window door coin stall cart wall lamp roof crowd bell sign purse stone corner "
              "neighbour button coat hat "
              "ribbon carpet vase clock chimney banner step bench pigeon scale pot kettle candle mirror "
              "ladder letter"),
        topic("mountain pass cave summit ridge monastery camp glacier quarry",
              "climber miner guide hermit geologist monk",
              "rock snowflake peak rope stone eagle goat slope boot crystal tunnel lantern pick backpack "
              "tent blanket echo "
              "avalanche boulder crack ledge stream valley hammer nugget torch mule sled glove icicle gem "
              "waterfall"),
        topic("kitchen bakery dairy cellar tavern banquet pantry teahouse",
              "cook baker waiter brewer grocer confectioner",
              "table cup plate spoon loaf cake oven knife bowl pan jar onion carrot potato pie apron fork "
              "jug egg lemon "
              "tomato biscuit pudding dumpling recipe stove tray napkin bottle sausage pancake kettle ladle "
              "walnut plum"),
        topic("school library classroom archive museum study playground laboratory",
              "teacher librarian student scholar scribe printer",
              "book page pen desk map shelf pupil lesson word letter question pencil chair globe story "
              "drawer inkwell chapter "
              "picture notebook riddle poem scroll board answer bag ruler alphabet dictionary envelope stamp "
              "diary"),
        topic("workshop forge factory shed yard studio smithy attic",
              "smith carpenter inventor clockmaker weaver glassblower",
              "hammer wheel nail machine saw gear spring engine tool screw board chain lever lamp bolt wire "
              "pipe bellows anvil "
              "plank chisel drill pulley pump crane cog valve spindle loom toy whistle kite wagon magnet"),
        topic("castle palace throne courtyard dungeon tower garden hall",
              "knight queen servant minstrel guard jester",
              "king crown sword gate horse shield flag tower banner throne dragon princess prince feast "
              "trumpet armour moat "
              "helmet arrow jewel cloak staircase tapestry goblet spear ring duke lord drawbridge falcon "
              "chest key scroll"),
        topic("station railway platform depot village tunnel junction signalbox",
              "conductor engineer porter driver traveller mechanic",
              "train ticket track carriage whistle signal suitcase engine seat window passenger lamp wheel "
              "bridge map clock "
              "parcel tunnel bell timetable wagon lever boiler trolley newspaper stove compartment rail "
              "newsboy trunk"),
        topic("garden greenhouse park pond meadow nursery hedge terrace",
              "gardener botanist florist painter beekeeper caretaker",
              "flower rose tree seed bee butterfly leaf bench spade petal frog weed tulip lily daisy worm "
              "pot hedge vine snail "
              "bulb thorn swing fountain statue ladybird sparrow wheelbarrow rake bud sunflower dragonfly "
              "lawn"),
        topic("desert oasis tent ruin bazaar canyon well temple",
              "trader nomad archaeologist guide rider potter",
              "camel tent dune well palm snake caravan jar statue lizard star carpet veil map scorpion "
              "column tomb drum coin "
              "sandal spice date falcon oasis lamp pyramid robe trail mirage saddle cactus stone vulture"),
        topic("river mill dam bridge island marsh bank ferry",
              "ferryman miller angler otterkeeper raftsman bridgekeeper",
              "boat fish bridge stone reed duck frog bank wheel net otter current paddle swan canoe beaver "
              "trout rock branch "
              "heron pebble log willow rapids hook dam basket lily eel kingfisher raft turtle mosquito"),
        topic("theatre stage hall circus tent fairground ballroom rehearsal",
              "actor singer dancer violinist juggler puppeteer",
              "song mask costume drum flute curtain fiddle dance crowd puppet poster violin seat trumpet "
              "note clown balloon "
              "piano lamp ticket stage script harp magician trick rope hoop choir bell guitar accordion "
              "carousel wig"),
        topic("observatory hilltop tower roof balcony dome attic plateau",
              "astronomer lamplighter watchman dreamer mathematician painter",
              "star moon telescope planet comet cloud lens chart lamp owl shadow notebook galaxy bat candle "
              "rocket mirror "
              "constellation number circle line dial instrument satellite meteor eclipse orbit window "
              "machine clock"),
    };
}

}  // namespace

const Lexicon& lexicon() {
    static const Lexicon words = [] {
        Lexicon lex;
        lex.topics = topics();
        lex.women = split(
            "Mira Anna Lena Sara Clara Nora Ella Ida Rosa Maya Vera Alma Iris Lucy Emma Olga Tilda Hanna Zoe "
            "Elin Freya "
            "Marta Greta Sofia Nina Petra Agnes Esther Lydia Ruth Amelia Ingrid Selma Thea Wanda Yara "
            "Beatrix Cecily Dora "
            "Edith Flora Gwen Hilda Isolde Juno Katya Livia Mabel Odile Paloma Ramona Sigrid Tamsin Ursula "
            "Viola Zelda");
        lex.men = split(
            "Tom Ben Jonas Peter Paul Max Leo Otto Sam Henry Oscar Felix Hugo Emil Victor Adam Simon Martin "
            "Anton Karl "
            "Jakob Milo Noah Oliver Rufus Stefan Theo Walter Yusuf Arthur Bruno Caspar Dmitri Edgar Finn "
            "Gustav Hector Igor "
            "Jasper Kaspar Lars Magnus Niels Orson Pascal Quentin Roland Silas Tobias Ulrich Vincent Wendel "
            "Xaver Zeno");
        lex.towns_front = split(
            "Alder Oak Stone River Green North Ash Elm Silver Fox Raven Winter Mill Hazel Copper Birch Amber "
            "Wolf Thorn "
            "Heather Swan Iron Honey Clover Falcon");
        lex.towns_back = split(
            "brook ford field ton wick haven dale bridge burgh well stead mouth gate ham crest hollow worth "
            "moor");
        lex.pets = split(
            "Pepper Biscuit Shadow Button Pip Ginger Rusty Patch Nutmeg Domino Marble Thistle Bramble Pickle "
            "Sooty Waffle "
            "Tinker Comet Acorn Juniper");
        lex.nouns = split(
            "day house man woman child door hand room friend night thing morning road voice idea box year "
            "corner light "
            "word evening noise plan secret hill bird neighbour hour face basket garden moment bag step "
            "place name stranger "
            "game problem sound smile visitor gift dream mistake journey promise shoulder week pocket finger "
            "reason story "
            "cousin floor cupboard shoe chance task party family trick surprise storm guest sister brother "
            "uncle aunt "
            "festival footprint accident adventure");
        lex.treasures = split(
            "key ring map lantern book box flute clock coin letter compass necklace drum kite mirror bell "
            "cup crown lamp "
            "violin whistle chest brooch statue telescope doll mask quilt puzzle medal globe vase bracelet "
            "music-box "
            "snow-globe chessboard sundial locket medallion kaleidoscope");
        lex.materials = split(
            "wooden silver golden copper glass leather iron paper stone silk brass ivory clay bronze velvet "
            "tin crystal "
            "marble woollen porcelain");
        lex.colours = split(
            "red blue green white black yellow brown grey purple orange pink scarlet violet crimson "
            "turquoise");
        lex.foods = split(
            "bread soup cheese honey cake tea milk porridge jam stew fruit butter pie pudding chocolate rice "
            "toast cider "
            "gingerbread broth");
        lex.animals = split(
            "dog cat horse goat donkey fox rabbit owl parrot goose mouse raven hedgehog squirrel pony turtle "
            "hen lamb ferret "
            "badger");
        lex.virtues = split(
            "patience courage kindness honesty trust friendship curiosity hope care wisdom loyalty humour "
            "generosity "
            "perseverance modesty gratitude");
        lex.feelings = split(
            "happy sad tired afraid angry proud worried curious surprised calm lonely excited nervous "
            "grateful hopeful "
            "ashamed jealous cheerful confused relieved puzzled restless weary delighted anxious bored");
        lex.numbers = split("two three four five seven six ten twelve nine eight eleven");
        lex.times = split("morning evening afternoon night day week autumn winter spring summer");
        lex.adjectives = split(
            "old little big small new good long young bright dark quiet warm cold strange heavy kind soft "
            "deep empty "
            "broken clever narrow strong round wide loud gentle hungry dusty slow quick brave clean thick "
            "thin sharp "
            "hidden lovely dry wet rough smooth tall short tiny huge simple rich poor wise foolish stubborn "
            "careful "
            "sleepy noisy crooked pale rusty muddy sunny windy foggy shiny lazy polite rude honest secret "
            "ancient modern "
            "hollow sour sweet bitter fresh stale fragile sturdy clumsy graceful silent busy famous lonely "
            "wild tame "
            "generous greedy shy bold nervous patient curious cheerful gloomy grumpy elegant ragged tidy "
            "messy steep flat "
            "golden ordinary remarkable beautiful ugly dangerous safe mysterious faithful precious enormous "
            "peculiar "
            "splendid delicate solemn humble weathered forgotten frozen painted scattered tangled glittering "
            "whispering "
            "wandering flickering");
        lex.adverbs = split(
            "slowly quickly quietly carefully suddenly softly gently finally happily proudly sadly patiently "
            "eagerly "
            "loudly nervously calmly bravely clumsily secretly politely gladly silently hurriedly "
            "thoughtfully cheerfully "
            "stubbornly solemnly gratefully anxiously gracefully");
        lex.intransitive = split(
            "walk wait laugh smile sleep run dance sing work listen dream rest wander whistle shout cry rush "
            "travel "
            "shiver hurry climb swim jump nod sigh tremble stumble yawn giggle whisper pause kneel stroll "
            "march hesitate "
            "grumble frown mumble sneeze doze crawl limp tiptoe blush hum");
        lex.transitive = split(
            "find take see hold open carry lose keep bring watch follow clean build paint lift touch drop "
            "push pull fix "
            "mend hide show sell buy wash throw catch count choose wrap break examine collect polish repair "
            "borrow "
            "discover admire sketch measure describe remember draw gather arrange cover fold tie shake "
            "balance decorate "
            "protect inspect rescue return offer study steal bury hang sharpen unlock stack weigh trade stir "
            "sort guard "
            "scrub load label");
        return lex;
    }();
    return words;
}

}  // namespace pastur
