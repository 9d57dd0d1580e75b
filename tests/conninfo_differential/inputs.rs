//! Connection strings to compare, written by hand and grown from a grammar.

/// Corner cases of the grammars.
pub(crate) const STRINGS: &[&str] = &[
    // Blanks.
    "",
    " ",
    "\t\n\x0b\x0c\r",
    "host=a",
    " host = a ",
    "host\t=\na\rport=1",
    "host=a\x0bport=1",
    "host=\u{a0}a",
    "host=a\u{2003}port=1",
    "host=a\u{85}port=1",
    "host= port=1",
    "host=  ",
    "host",
    "host ",
    "host a",
    "host =",
    "host==a",
    "host=a=b",
    "=a",
    " = a",
    "=",
    "host = = a",
    "host=a port",
    "host=a port ",
    "host=a port=",
    // Quotes and escapes.
    "host=''",
    "host='a'",
    "host='a b'",
    "host='a'port=1",
    "host='a''b'",
    "host='a' 'b'",
    "host=a'b'c",
    "host=a'",
    "host='",
    "host='a",
    "host='a\\",
    "host='a\\'",
    "host='a\\''",
    "host='\\\\'",
    "host=\\",
    "host=a\\",
    "host=\\ a",
    "host=a\\ b",
    "host=a\\\\b",
    "host=\\'a",
    "host='\n'",
    "host=\"a b\"",
    "host=\\\u{e4}",
    "host='\\\u{e4}\u{1f600}'",
    "host= 'a' port= 'b'",
    "'host'=a",
    "ho\\st=a",
    "\\host=a",
    "host=a\\\tb",
    // Keywords.
    "Host=a",
    "HOST=a",
    "hosts=a",
    "hos=a",
    "tty=1",
    "authtype=1",
    "requiressl=1",
    "requiressl=0",
    "requiressl=",
    "requiressl=10",
    "requiressl=' 1'",
    "Requiressl=1",
    "sslmode=disable requiressl=1",
    "requiressl=1 sslmode=allow",
    "host=a host=b",
    "host=a port=1 host=",
    "ssl=true",
    "service=x",
    "servicefile=x",
    "sslcompression=2",
    "\u{e4}=1",
    "host\u{e4}=1",
    "host=a,b port=1,2",
    "dbname='host=b'",
    "dbname=postgres://x",
    // Secrets, and secrets with blanks.
    "password=my secret",
    "password=my secret=1",
    "password='my' secret",
    "password=a=b",
    "password='a b' host=c",
    "password=my host=c",
    "sslpassword=x y",
    "Postgres://u:p@h",
    "http://u:p@h?a=b",
    "postgresql:/u:p@h",
    // URIs: the scheme and the path.
    "postgresql://",
    "postgres://",
    "postgresql:",
    "postgresql:/",
    "postgres:///",
    "Postgres://h",
    " postgres://h",
    "postgres ://h",
    "postgres://h",
    "postgres://h:1",
    "postgres://h:",
    "postgres://:1",
    "postgres://:",
    "postgres://h/",
    "postgres://h/d",
    "postgres:///d",
    "postgres://h/d/e",
    "postgres://h/d#f",
    "postgres://h#f",
    "postgres://h//",
    "postgres://h:1:2/d",
    "postgres://h:x",
    "postgres://h,i",
    "postgres://h:1,i:2",
    "postgres://h:1,i",
    "postgres://h,i:2",
    "postgres://,",
    "postgres://h,",
    "postgres://,,/d",
    "postgres://h:,i:",
    "postgres://h/a,b",
    "postgres://%2Ftmp%2Fx",
    "postgres://a%2Cb:1%2C2",
    "postgres://h%3A1",
    "postgres://%40pg",
    "postgres:///tmp",
    // URIs: the user.
    "postgres://u@",
    "postgres://@",
    "postgres://@h",
    "postgres://u@h",
    "postgres://u:@h",
    "postgres://:@h",
    "postgres://:p@h",
    "postgres://u:p@h",
    "postgres://u:p:q@h",
    "postgres://u:p@q@h",
    "postgres://u@v:p@h",
    "postgres://h/d@e",
    "postgres://h?x=a@b",
    "postgres://h?user=a@b",
    "postgres://u:p/q@h",
    "postgres://u%40v:p%3Aq@h",
    "postgres://u:p?q@h",
    "postgres://[u]@h",
    "postgres://u:p[@]h",
    // URIs: IPv6.
    "postgres://[::1]",
    "postgres://[::1]:1",
    "postgres://[::1]/d",
    "postgres://[::1]?port=1",
    "postgres://[::1],[::2]:1",
    "postgres://[",
    "postgres://[::1",
    "postgres://[]",
    "postgres://[]:1",
    "postgres://[x]",
    "postgres://[::1]x",
    "postgres://[::1] ",
    "postgres://[::1]]",
    "postgres://[[::1]]",
    "postgres://h,[",
    "postgres://h[::1]",
    "postgres://[::1]\u{e4}",
    "postgres://\u{e4}[::1]",
    "postgres://u:p@[::1",
    "postgres://u:p@[::1]x/d?password=q",
    "postgres://[a%20b]",
    "postgres://[a]@h",
    "postgres://h,[::1]:2,i/d",
    "postgres://[/]",
    // URIs: the query.
    "postgres://?host=a",
    "postgres:///?host=a",
    "postgres://h?host=a",
    "postgres://h/d?",
    "postgres://h?",
    "postgres://h??",
    "postgres://h?port=",
    "postgres://h?port=1&",
    "postgres://h?port=1&&user=a",
    "postgres://h?&port=1",
    "postgres://h?&",
    "postgres://h?port",
    "postgres://h?port&user=a",
    "postgres://h?port=1=2",
    "postgres://h?port==",
    "postgres://h?=",
    "postgres://h?=1",
    "postgres://h?ports=1",
    "postgres://h?Port=1",
    "postgres://h?port=1?user=a",
    "postgres://h?port=1/d",
    "postgres://h?port=1;user=a",
    "postgres://h?port=1+2",
    "postgres://h?port=1#f",
    "postgres://h?ssl=true",
    "postgres://h?ssl=True",
    "postgres://h?ssl=1",
    "postgres://h?ssl=",
    "postgres://h?ssl=true&sslmode=disable",
    "postgres://h?sslmode=disable&ssl=true",
    "postgres://h?requiressl=1",
    "postgres://h?requiressl=0",
    "postgres://h?%70ort=1",
    "postgres://h?port%3D1",
    "postgres://h?%73sl=tru%65",
    "postgres://h?host=/a&host=/b",
    "postgres://u@h?user=v",
    "postgres://h?user=",
    "postgres://h?password=a&b",
    "postgres://h?password=a&b=c",
    "postgres://h?password=a=b",
    "postgres://h?application_name='a b'",
    "postgres://h?options=-c%20a%3Db",
    "postgres://h?servicefile=x",
    "postgres://h?\tport=1",
    "postgres://h?port=1\n",
    // URIs: percent-encoding.
    "postgres://%41",
    "postgres://%6a%6A",
    "postgres://%",
    "postgres://%4",
    "postgres://%4/",
    "postgres://%%",
    "postgres://%zz",
    "postgres://%4z",
    "postgres://%z4",
    "postgres://%+4",
    "postgres://% 4",
    "postgres://%00",
    "postgres://a%00b",
    "postgres://%0",
    "postgres://%c3%a4",
    "postgres://%e4",
    "postgres://%25",
    "postgres://%2541",
    "postgres://u%zz@%00",
    "postgres://u:%zz@h",
    "postgres://u:%00@h",
    "postgres://h/%zz",
    "postgres://h/%2F%3F",
    "postgres://h:%31",
    "postgres://h?port=%zz",
    "postgres://h?%zz=1",
    "postgres://h?password=%zz",
    "postgres://h?%00=%zz",
    // URIs: blanks, which only libpq 18 knows.
    "postgres:// ",
    "postgres:// h ",
    "postgres://h /d",
    "postgres://h/ d ",
    "postgres://a b",
    "postgres://a  b ",
    "postgres://u @h",
    "postgres:// u : p @ h : 1 / d",
    "postgres://u:p q@h",
    "postgres://h? port = 1 ",
    "postgres://h?po rt=1",
    "postgres://h?port=1 2",
    "postgres://h? =1",
    "postgres://a b%zz",
    "postgres://a%zz b",
    "postgres://a%20b",
    "postgres://%20a%20",
    "postgres://h, i",
    "postgres://[ ::1 ]",
    "postgres://h?password=a b",
];

/// Strings whose values are checked too. Their Unix sockets are in directories that do not exist.
pub(crate) const CHECKED: &[&str] = &[
    // Lists.
    "host=/x",
    "host=/x,/y",
    "host=/x,/y port=1",
    "host=/x,/y port=1,2",
    "host=/x,/y port=1,",
    "host=/x,/y port=,",
    "host=/x,/y port=1,2,3",
    "host=/x port=1,2",
    "host=, port=1",
    "host=,/x port=1",
    "host=@no/such port=1",
    "host=@ port=1",
    "hostaddr=127.0.0.1 host=/x,/y",
    "hostaddr=127.0.0.1,::1 host=/x",
    "hostaddr=, host=/x,/y port=1",
    "hostaddr=x port=1",
    "hostaddr=[::1] port=1",
    "hostaddr=' 127.0.0.1' port=1",
    "hostaddr=x,y host=/x,/y",
    "hostaddr=1.2.3.4.5 host=/x",
    "hostaddr=256.0.0.1 host=/x",
    "hostaddr=::g host=/x",
    "hostaddr=x, host=a,/y",
    "hostaddr=:: port=1,2",
    // Ports.
    "host=/x port=0",
    "host=/x port=65535",
    "host=/x port=65536",
    "host=/x port=-1",
    "host=/x port=+1",
    "host=/x port=' 1 '",
    "host=/x port='\t1\n'",
    "host=/x port=",
    "host=/x port=a",
    "host=/x port=1a",
    "host=/x port='1 2'",
    "host=/x port=0x10",
    "host=/x port=00001",
    "host=/x port=2147483648",
    "host=/x port=99999999999999999999",
    "host=/x port=' '",
    "host=/x,/y port=0",
    "host=/x,/y port=0,1",
    "host=/x,/y port=a,1",
    "host=/x,/y port=1,a",
    "host=/x port=1.0",
    // Socket paths: 107 bytes are the limit, with /.s.PGSQL.5432 after the directory.
    "host=/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "host=/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "host=/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx,/y",
    "host=@xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "host=/x/ port=1",
    "host=//x",
    // Names.
    "host=/x user=",
    "host=/x user=u",
    "host=/x user=u dbname=",
    "host=/x user=u dbname=d",
    "host=/x dbname=host=y",
    "host=/x application_name= fallback_application_name=f",
    "host=/x options='-c a=b'",
    "host=/x requirepeer=nobody",
    // Words.
    "host=/x channel_binding=",
    "host=/x channel_binding=Prefer",
    "host=/x channel_binding=require",
    "host=/x sslmode=",
    "host=/x sslmode=Require",
    "host=/x sslmode=verify-full",
    "host=/x sslmode=allow sslmode=x",
    "host=/x sslnegotiation=",
    "host=/x sslnegotiation=direct",
    "host=/x sslnegotiation=direct sslmode=require",
    "host=/x sslnegotiation=requiredirect",
    "host=/x sslrootcert=system",
    "host=/x sslrootcert=system sslmode=prefer",
    "host=/x sslrootcert=system sslmode=verify-ca",
    "host=/x sslrootcert=System",
    "host=/x sslrootcert=system requiressl=1",
    "host=/x sslcertmode=",
    "host=/x sslcertmode=require",
    "host=/x sslcertmode=on",
    "host=/x gssencmode=",
    "host=/x gssencmode=prefer",
    "host=/x gssencmode=disable",
    "host=/x gssencmode=x",
    "host=/x target_session_attrs=",
    "host=/x target_session_attrs=primary",
    "host=/x target_session_attrs=master",
    "host=/x load_balance_hosts=",
    "host=/x load_balance_hosts=disable",
    "host=/x load_balance_hosts=true",
    "host=/x replication=database",
    "host=/x replication=",
    "host=/x ssl_min_protocol_version=",
    "host=/x ssl_min_protocol_version=tlsv1.2",
    "host=/x ssl_min_protocol_version=SSLv3",
    "host=/x ssl_max_protocol_version=TLSv1.3",
    "host=/x ssl_max_protocol_version=TLSv1",
    "host=/x ssl_max_protocol_version=TLSv1.1",
    "host=/x ssl_max_protocol_version=x",
    "host=/x ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
    "host=/x ssl_min_protocol_version=TLSv1 sslmode=disable ssl_max_protocol_version=TLSv1.1",
    "host=/x ssl_min_protocol_version=TLSv1.1 ssl_max_protocol_version=TLSv1",
    "host=/x ssl_min_protocol_version='' ssl_max_protocol_version=TLSv1.2",
    "host=/x sslsni=x",
    "host=/x sslcompression=x",
    "host=/x krbsrvname=",
    "host=/x gsslib=x",
    "host=/x min_protocol_version=",
    "host=/x min_protocol_version=3.0",
    "host=/x min_protocol_version=3.2",
    "host=/x max_protocol_version=latest",
    "host=/x max_protocol_version=3.1",
    "host=/x max_protocol_version=3",
    "host=/x min_protocol_version=latest max_protocol_version=3.0",
    "host=/x min_protocol_version=3.2 max_protocol_version=3.2",
    // require_auth.
    "host=/x require_auth=",
    "host=/x require_auth=md5",
    "host=/x require_auth=none",
    "host=/x require_auth=!none",
    "host=/x require_auth=password,md5,scram-sha-256,gss,sspi,none",
    "host=/x require_auth=!password,!md5",
    "host=/x require_auth=,",
    "host=/x require_auth=md5,",
    "host=/x require_auth=!",
    "host=/x require_auth=!!md5",
    "host=/x require_auth=MD5",
    "host=/x require_auth='md5, none'",
    "host=/x require_auth=md5,md5",
    "host=/x require_auth=none,none",
    "host=/x require_auth=!none,!none",
    "host=/x require_auth=!md5,!md5",
    "host=/x require_auth=!gss,!sspi",
    "host=/x require_auth=scram-sha-256,scram-sha-256",
    "host=/x require_auth=!scram-sha-256,!scram-sha-256",
    "host=/x require_auth=md5,!md5",
    "host=/x require_auth=!md5,md5",
    "host=/x require_auth=!md5,x",
    "host=/x require_auth=md5,!x",
    "host=/x require_auth=x,!y",
    "host=/x require_auth=scram-sha-256-plus",
    // SCRAM keys.
    "host=/x scram_client_key=",
    "host=/x scram_client_key=x",
    "host=/x scram_client_key=AAAA",
    "host=/x scram_server_key=AAA=",
    "host=/x scram_client_key=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "host=/x scram_client_key='AAAAAAAAAAAAAAAAAAAAAAAAAA AAAAAAAAAAAAAAAAA='",
    "host=/x scram_server_key=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "host=/x scram_server_key=!!!!",
    "host=/x scram_server_key=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    // Which of several mistakes is reported first.
    "host=/x port=1,2 sslmode=x",
    "host=/x sslmode=x channel_binding=x",
    "host=/x require_auth=x channel_binding=x",
    "host=/x port=a sslmode=x",
    "host=/x target_session_attrs=x gssencmode=x",
    "host=/x sslmode=x sslrootcert=system",
    "host=/x load_balance_hosts=x scram_client_key=x",
    "host=/x min_protocol_version=x load_balance_hosts=x",
    "host=/x sslcertmode=x ssl_min_protocol_version=x",
    "host=/x sslnegotiation=x sslcertmode=x",
];

/// A small generator of numbers (xorshift64*), so that a seed gives the same strings everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// True once in `n` times.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// Up to `most` words, joined without blanks.
    fn some(&mut self, words: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.pick(words)).collect()
    }
}

/// A string from one of the grammars, well-formed more often than not. `keywords` are the existing ones.
pub(crate) fn generate(random: &mut Random, keywords: &[&str]) -> String {
    let mut string = if random.one_in(2) { uri(random, keywords) } else { key_value(random, keywords) };
    if random.one_in(8) {
        // Something unexpected anywhere.
        let at = random.below(string.chars().count() + 1);
        let at = string.char_indices().nth(at).map_or(string.len(), |(at, _)| at);
        string.insert_str(
            at,
            random.pick(&["=", "'", "\\", " ", "@", ":", "/", "?", "&", "[", "]", "%", ",", "\u{e4}"]),
        );
    }
    string
}

fn keyword<'a>(random: &mut Random, keywords: &[&'a str]) -> &'a str {
    match random.below(20) {
        0 => random.pick(&["requiressl", "ssl", "hosts", "Host", "", "tty"]),
        1..10 => random.pick(&["host", "port", "user", "password", "dbname"]),
        _ => random.pick(keywords),
    }
}

fn key_value(random: &mut Random, keywords: &[&str]) -> String {
    const BLANKS: &[&str] = &[" ", " ", "  ", "\t", "\n", "\r", "\x0b", "\x0c"];
    let mut string = random.some(BLANKS, 1);
    for _ in 0..random.below(5) {
        string += keyword(random, keywords);
        string += &random.some(BLANKS, 1);
        string += if random.one_in(30) { "" } else { "=" };
        string += &random.some(BLANKS, 1);
        if random.one_in(2) {
            string +=
                &random.some(&["a", "B", "1", "\u{e4}", "\\ ", "\\\\", "\\'", "\\x", "'", "=", ",", "/"], 6);
            string += random.pick(BLANKS);
        } else {
            string += "'";
            string += &random.some(&["a", " ", "\n", "\u{1f600}", "\\'", "\\\\", "\\n", "\"", "=", ","], 6);
            string += if random.one_in(30) { "" } else { "'" };
            string += &random.some(BLANKS, 1);
        }
    }
    string
}

fn uri(random: &mut Random, keywords: &[&str]) -> String {
    const TEXT: &[&str] =
        &["a", "b", "0", "-", ".", "%41", "%2f", "%2C", "%c3%a4", "%20", "\u{e4}", "#", "+", "'", "\\", "\t"];
    const BROKEN: &[&str] = &["%", "%4", "%zz", "%00", " "];
    let text = |random: &mut Random| {
        let mut text = random.some(TEXT, 4);
        if random.one_in(40) {
            text += random.pick(BROKEN);
        }
        text
    };
    let mut string = String::from(random.pick(&["postgresql://", "postgres://"]));
    if random.one_in(2) {
        string += &text(random);
        if random.one_in(2) {
            string += ":";
            string += &text(random);
        }
        string += "@";
    }
    for host in 0..random.below(3) {
        string += if host > 0 { "," } else { "" };
        if random.one_in(4) {
            string += random.pick(&["[::1]", "[fe80::1%25eth0]", "[a]", "[]", "[::1"]);
        } else {
            string += &text(random);
        }
        if random.one_in(3) {
            string += ":";
            string += random.pick(&["", "1", "5432", "x", "%35"]);
        }
    }
    if random.one_in(2) {
        string += "/";
        string += &text(random);
    }
    if random.one_in(2) {
        string += "?";
        for parameter in 0..random.below(4) {
            string += if parameter > 0 { "&" } else { "" };
            string += keyword(random, keywords);
            string += if random.one_in(20) { "" } else { "=" };
            string += &text(random);
        }
    }
    string
}
