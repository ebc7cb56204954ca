// Which keys make a character, for each keyboard layout a machine may be set to.
//
// A screen console sends keys, not characters: QEMU hands the position of a key to the guest, and
// the guest's own layout makes a character of it. So "@" is Shift+2 for a machine set to "us" and
// AltGr+Q for one set to "de". The tables are those of xkeyboard-config 2.35 (pc105), which Linux
// guests use on the text console as well. A combining character stands for a dead key. Where a
// layout has a character twice, only the place printed on real keyboards is kept.

const KEYS = [
  "Backquote", "Digit1", "Digit2", "Digit3", "Digit4", "Digit5", "Digit6", "Digit7", "Digit8", "Digit9", "Digit0", "Minus",
  "Equal", "KeyQ", "KeyW", "KeyE", "KeyR", "KeyT", "KeyY", "KeyU", "KeyI", "KeyO", "KeyP", "BracketLeft", "BracketRight", "KeyA",
  "KeyS", "KeyD", "KeyF", "KeyG", "KeyH", "KeyJ", "KeyK", "KeyL", "Semicolon", "Quote", "Backslash", "IntlBackslash", "KeyZ",
  "KeyX", "KeyC", "KeyV", "KeyB", "KeyN", "KeyM", "Comma", "Period", "Slash",
];
const ALTGR_ROWS = [false, false, true, true];
const SHIFT_ROWS = [false, true, false, true];

// Four rows: alone, with Shift, with AltGr, with both. A space: nothing there.
const TABLES = {
  "us": [
    "`1234567890-=qwertyuiop[]asdfghjkl;'\\ zxcvbnm,./",
    "~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"| ZXCVBNM<>?",
  ],
  "gb": [
    "`1234567890-=qwertyuiop[]asdfghjkl;'#\\zxcvbnm,./",
    "¬!\"£$%^&*()_+QWERTYUIOP{}ASDFGHJKL:@~|ZXCVBNM<>?",
    "|¹²³€½¾{[]}\\\u0327@ſe¶ŧ←↓→øþ\u0308\u0303æßðđŋħ ĸł\u0301\u0302\u0300|«»¢„“”µ•· ",
    "|¡⅛£¼⅜⅝⅞™±°¿\u0328Ω§E®Ŧ¥↑ıØÞ\u030a\u0304ÆẞÐªŊĦ &Ł\u030b\u030c\u0306¦<>©‚‘’º×÷\u0307",
  ],
  "de": [
    "\u03021234567890ß\u0301qwertzuiopü+asdfghjklöä#<yxcvbnm,.-",
    "°!\"§$%&/()=?\u0300QWERTZUIOPÜ*ASDFGHJKLÖÄ'>YXCVBNM;:_",
    "′¹²³¼½¬{[]}\\\u0327@ſ€¶ŧ←↓→øþ\u0308~æſðđŋħ ĸł\u030b\u0302’|»«¢„“”µ·…–",
    "″¡⅛£¤⅜⅝⅞™±°¿\u0328Ω§€®Ŧ¥↑ıØÞ\u030a¯ÆẞÐªŊĦ\u0307&Ł \u030c\u0306 ›‹©‚‘’º×÷—",
  ],
  "ch-de": [
    "§1234567890'\u0302qwertzuiopü\u0308asdfghjklöä$<yxcvbnm,.-",
    "°+\"*ç%&/()=?\u0300QWERTZUIOPè!ASDFGHJKLéà£>YXCVBNM;:_",
    "¬ @#¼½¬|¢  \u0301\u0303 ſ€¶ŧ←↓→œþ[]æßðđŋħ ĸł\u0301{}\\«»¢„“”µ•· ",
    "¬¡⅛£$⅜⅝⅞™±°¿\u0328Ω§E®Ŧ¥↑ıŒÞ\u030a\u0304ÆẞÐªŊĦ &Ł\u030b\u030c\u0306¦<>©‚‘’º×÷\u0307",
  ],
  "ch-fr": [
    "§1234567890'\u0302qwertzuiopè\u0308asdfghjkléà$<yxcvbnm,.-",
    "°+\"*ç%&/()=?\u0300QWERTZUIOPü!ASDFGHJKLöä£>YXCVBNM;:_",
    "¬ @#¼½¬|¢  \u0301\u0303 ſ€¶ŧ←↓→œþ[]æßðđŋħ ĸł\u0301{}\\«»¢„“”µ•· ",
    "¬¡⅛£$⅜⅝⅞™±°¿\u0328Ω§E®Ŧ¥↑ıŒÞ\u030a\u0304ÆẞÐªŊĦ &Ł\u030b\u030c\u0306¦<>©‚‘’º×÷\u0307",
  ],
  "fr": [
    "²&é\"'(-è_çà)=azertyuiop\u0302$qsdfghjklmù*<wxcvbn,;:!",
    " 1234567890°+AZERTYUIOP\u0308£QSDFGHJKLM%µ>WXCVBN?./§",
    "¬¹~#{[|`\\^@]}æ«€¶ŧ←↓→øþ\u0308¤@ßðđŋħ ĸłµ\u0302\u0300|ł»¢„“”\u0301•· ",
    "¬¡⅛£$⅜⅝⅞™±°¿\u0328Æ<¢®Ŧ¥↑ıØÞ\u030a\u0304ΩẞÐªŊĦ &Łº\u030c\u0306¦Ł>©‚‘’\u030b×÷\u0307",
  ],
  "it": [
    "\\1234567890'ìqwertyuiopè+asdfghjklòàù<zxcvbnm,.-",
    "|!\"£$%&/()=?^QWERTYUIOPé*ASDFGHJKLç°§>ZXCVBNM;:_",
    "¬¹²³¼½¬    `~ ſ€¶ŧ←↓→øþ[]æßðđŋħ ĸł@#\u0300««»¢“”ñµ\u0301·\u0304",
    "¦¡\u030b\u0303⅛⅜⅝⅞™±\u0328¿\u0302Ω§¢®Ŧ¥↑ıØÞ{}ÆẞÐªŊĦ &Ł\u0327\u030a\u0306»<>©‘’Ñº×\u0308÷",
  ],
  "es": [
    "º1234567890'¡qwertyuiop\u0300+asdfghjklñ\u0301ç<zxcvbnm,.-",
    "ª!\"·$%&/()=?¿QWERTYUIOP\u0302*ASDFGHJKLÑ\u0308Ç>ZXCVBNM;:_",
    "\\|@#~½¬{[]}\\\u0327@ſ€¶ŧ←↓→øþ[]æßðđŋħ ĸł\u0303{}|«»¢„“”µ•· ",
    "\\¡⅛£$⅜⅝⅞™±°¿\u0328Ω§¢®Ŧ¥↑ıØÞ\u030a\u0304ÆẞÐªŊĦ &Ł\u030b\u030c\u0306¦<>©‚‘’º×÷\u0307",
  ],
  "be": [
    "²&é\"'(§è!çà)-azertyuiop\u0302$qsdfghjklmùµ<wxcvbn,;:=",
    "³1234567890°_AZERTYUIOP\u0308*QSDFGHJKLM%£>WXCVBN?./+",
    "¬|@#¼½^  {} \u0327 ſ€¶ŧ←↓→œþ[]æßðđŋħ ĸł\u0301\u0301\u0300\\«»¢„“”\u0327•·\u0303",
    "¬¡⅛£$⅜⅝⅞™±°¿\u0328Ω§¢®Ŧ¥↑ıŒÞ\u030a\u0304ÆẞÐªŊĦ &Ł\u030b\u030c\u0306\\<>©‚‘’º×÷\u0307",
  ],
  "pt": [
    "\\1234567890'«qwertyuiop+\u0301asdfghjklçº\u0303<zxcvbnm,.-",
    "|!\"#$%&/()=?»QWERTYUIOP*\u0300ASDFGHJKLÇª\u0302>ZXCVBNM;:_",
    "¬¹@£§½¬{[]}\\\u0327@ſ€¶ŧ←↓→øþ\u0308\u0303æßðđŋħ ĸł\u0301\u0302\u0300\\«»¢„“”µ•· ",
    "¬¡⅛£$⅜⅝⅞™±°¿\u0328Ω§¢®Ŧ¥↑ıØÞ\u030a\u0304ÆẞÐªŊĦ &Ł\u030b\u030c\u0306\\<>©‚‘’º×÷\u0307",
  ],
  "dk": [
    "½1234567890+\u0301qwertyuiopå\u0308asdfghjklæø'<zxcvbnm,.-",
    "§!\"#¤%&/()=?\u0300QWERTYUIOPÅ\u0302ASDFGHJKLÆØ*>ZXCVBNM;:_",
    "¾¡@£$½¥{[]}±|@ſ€®þ←↓→œþ\u0308\u0303ªßðđŋħ ĸł\u0301\u0302\u030b\\«»©„“”µ\u0327· ",
    "¶¹²³¼¢⅝÷«»°¿¦Ω§¢®Þ¥↑ıŒÞ\u030a\u030cºẞÐªŊĦ &Ł\u030b\u030c×¬<>©‚‘’º\u0328\u0307\u0307",
  ],
  "no": [
    "|1234567890+\\qwertyuiopå\u0308asdfghjkløæ'<zxcvbnm,.-",
    "§!\"#¤%&/()=?\u0300QWERTYUIOPÅ\u0302ASDFGHJKLØÆ*>ZXCVBNM;:_",
    "¦¡@£$½¥{[]}±\u0301@ſ€®þ←↓→œπ\u0308\u0303ªßðđŋħ ĸł\u0301\u0302\u030b½«»©„“”µ\u0327…–",
    "¶¹²³¼‰⅝÷«»°¿¬Ω§¢™Þ¥↑ıŒΠ\u030a\u030cºẞÐªŊĦ &Ł\u030b\u030c×¾<>©‚‘’º\u0328·—",
  ],
  "se": [
    "§1234567890+\u0301qwertyuiopå\u0308asdfghjklöä'<zxcvbnm,.-",
    "½!\"#¤%&/()=?\u0300QWERTYUIOPÅ\u0302ASDFGHJKLÖÄ*>ZXCVBNM;:_",
    "¶¡@£$€¥{[]}\\±@ſ€®þ←↓→œþ\u0308\u0303ªßðđŋħ ĸłøæ´|«»©„“”µ\u0327· ",
    "¾¹²³¼¢⅝÷«»°¿¬Ω§¢®Þ¥↑ıŒÞ\u030a\u030cºẞÐªŊĦ &ŁØÆ×¦<>©‚‘’º\u0328\u0307\u0307",
  ],
  "pl": [
    "`1234567890-=qwertyuiop[]asdfghjkl;'\\ zxcvbnm,./",
    "~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"| ZXCVBNM<>?",
    "¬≠²³¢€½§·«»–\u0327πœę©ß←↓→óþ\u0308\u0303ąśðæŋ’ə…ł\u0301\u0302\u0300 żźć„”ńµ≤≥ ",
    "∨¡¿£¼‰∧≈¾±°—\u0328ΩŒĘ®™¥↑↔ÓÞ\u030a\u0304ĄŚÐÆŊ•Ə Ł\u030b\u030c\u0306 ŻŹĆ‘“Ń∞×÷\u0307",
  ],
};

// The keys that stand alone whatever the layout.
const FIXED = { " ": "Space", "\n": "Enter", "\r": "Enter", "\t": "Tab", "\b": "Backspace", "\u001b": "Escape", "\u007f": "Delete" };

// A dead key followed by the space bar gives the accent alone.
const ACCENTS = { "`": "\u0300", "´": "\u0301", "^": "\u0302", "~": "\u0303", "¨": "\u0308", "°": "\u030a", "¸": "\u0327" };

const maps = new Map();

function mapOf(layout) {
  if (!maps.has(layout)) {
    const map = new Map();
    (TABLES[layout] ?? TABLES.us).forEach((row, level) => {
      [...row].forEach((char, index) => {
        if (char !== " " && !map.has(char)) {
          map.set(char, { char, code: KEYS[index], shift: SHIFT_ROWS[level], altgr: ALTGR_ROWS[level] });
        }
      });
    });
    for (const [char, code] of Object.entries(FIXED)) map.set(char, { char, code, shift: false, altgr: false });
    maps.set(layout, map);
  }
  return maps.get(layout);
}

// The key presses that make `char`, in their order, or null where the layout has none:
// [{ char, code, shift, altgr }]. `code` is that of KeyboardEvent; `char` is what the press gives,
// so after a dead key the whole character, which servers that take characters understand as well.
export function strokes(layout, char) {
  const map = mapOf(layout);
  if (map.has(char)) return [map.get(char)];
  if (ACCENTS[char] && map.has(ACCENTS[char])) return [map.get(ACCENTS[char]), { ...map.get(" "), char }];
  const [base, mark, ...more] = char.normalize("NFD");
  if (mark && !more.length && map.has(base) && map.has(mark)) return [map.get(mark), { ...map.get(base), char }];
  return null;
}

export const LAYOUTS = Object.keys(TABLES);
