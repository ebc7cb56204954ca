# The part of cloud-config that matters here, as lines of name<TAB>value.
function value(s) {
    sub(/^[^:]*:[ \t]*/, "", s)
    return plain(s)
}
function plain(s) {
    sub(/[ \t\r]+$/, "", s)
    if (s ~ /^'.*'$/) return substr(s, 2, length(s) - 2)
    if (s !~ /^".*"$/) return s
    s = substr(s, 2, length(s) - 2)
    gsub(/\\"/, "\"", s)
    gsub(/\\\\/, "\\", s)
    return s
}
/^[a-z_]+:/ { keys = 0; section = $1 }
/^hostname:/ { print "hostname\t" value($0) }
/^locale:/ { print "locale\t" value($0) }
/^password:/ { print "password\t" value($0) }
section == "keyboard:" && /^ +layout:/ { layout = value($0); print "keyboard\t" layout }
section == "keyboard:" && /^ +variant:/ { print "keyboard\t" layout "-" value($0) }
section == "users:" && /^ *- *name:/ { print "user\t" value($0); keys = 0; next }
section == "users:" && /^ +plain_text_passwd:/ { print "password\t" value($0) }
section == "users:" && /^ +(hashed_)?passwd:/ { print "hash\t" value($0) }
/ssh_authorized_keys:/ { keys = 1; next }
keys && /^ *- / { sub(/^ *- */, ""); print "key\t" plain($0); next }
/^ +[a-z_]+:/ { keys = 0 }
