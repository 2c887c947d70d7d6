use http::HeaderName;

use super::*;

/// Envoy's own default.
const ENVOY: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
                     %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
                     \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

#[test]
fn envoys_default_is_understood() {
    let template = LogTemplate::parse(ENVOY).unwrap();
    assert_eq!(template.segments().first(), Some(&Segment::Text("[".into())));
    assert_eq!(template.segments().last(), Some(&Segment::Text("\"".into())), "the line break at the end is none of the line's");
    let header = |name| RequestField::Header(HeaderName::from_static(name));
    let method_to_authority = [
        RequestField::Method,
        RequestField::OriginalPath,
        RequestField::Path,
        header("x-forwarded-for"),
        header("user-agent"),
        header("x-request-id"),
        RequestField::Authority,
    ];
    assert_eq!(template.request_fields(), method_to_authority);
    assert_eq!(template.response_fields(), [ResponseField::Header(HeaderName::from_static("x-envoy-upstream-service-time"))]);
}

#[test]
fn each_part_is_found() {
    let operator = |text: &str| match LogTemplate::parse(text).unwrap().segments() {
        [Segment::Operator(operator)] => operator.clone(),
        other => panic!("{other:?}"),
    };
    let choice = |main, alternative, length| FieldChoice { main, alternative, length };
    assert_eq!(operator("%REQ(a)%"), Operator::Request(choice(0, None, None)));
    assert_eq!(operator("%REQUEST_HEADER(a?B):10%"), Operator::Request(choice(0, Some(1), Some(10))));
    assert_eq!(operator("%REQ(a?A)%"), Operator::Request(choice(0, Some(0), None)), "a header is kept once");
    assert_eq!(operator("%RESP(:STATUS)%"), Operator::Response(choice(0, None, None)));
    assert_eq!(operator("%START_TIME%"), Operator::StartTime(TimeFormat::Milliseconds));
    assert_eq!(operator("%START_TIME(%s.%3f)%"), Operator::StartTime(TimeFormat::Pattern("%s.%3f".into())));
    assert_eq!(operator("%CLINGFISH(HASH)%"), Operator::Hash);
    assert_eq!(operator("%DOWNSTREAM_REMOTE_PORT%"), Operator::Downstream(AddressOf::Remote, AddressPart::Port));
    let text = LogTemplate::parse("100%% of %PROTOCOL%%%é").unwrap();
    let expected = [Segment::Text("100% of ".into()), Segment::Operator(Operator::Protocol), Segment::Text("%é".into())];
    assert_eq!(text.segments(), expected);
}

#[test]
fn a_refusal_names_operator_and_position() {
    for (text, expected) in [
        ("", "character 1: the template is empty; expected text with operators, as %RESPONSE_CODE%"),
        ("é %", "character 3: a percent sign that begins no operator; expected %% for the sign itself"),
        ("%protocol%", "character 1: a percent sign that begins no operator; expected %% for the sign itself"),
        ("é %PROTOCOL", "character 3: %PROTOCOL is not closed; expected a percent sign at its end"),
        ("%REQ(a%", "character 1: %REQ is not closed; expected a closing parenthesis"),
        ("%REQ(a)b%", "character 1: %REQ is not closed; expected a percent sign at its end"),
        ("%REQ%", "character 1: %REQ%: expected the name of a header in parentheses"),
        ("%REQ()%", "character 1: %REQ%: expected the name of a header in parentheses"),
        ("%REQ(a):%", "character 1: %REQ%: the length is \"\"; expected a number of bytes"),
        ("%REQ(a?b?c)%", "character 1: %REQ%: \"b?c\" is no name of a header"),
        ("%REQ(:status)%", "character 1: %REQ%: \":status\" is no name of a header"),
        ("%PROTOCOL(x)%", "character 1: %PROTOCOL%: expected nothing in parentheses"),
        ("%PROTOCOL:3%", "character 1: %PROTOCOL%: expected no length; only REQ() and RESP() have one"),
        ("%CLINGFISH(X)%", "character 1: %CLINGFISH%: expected one of GATEWAY, LISTENER, RULE, HASH, KEY_SOURCE in parentheses"),
        ("a\nb", "character 2: a control character; expected one line of text"),
    ] {
        assert_eq!(LogTemplate::parse(text).unwrap_err().to_string(), expected, "{text:?}");
    }
    let unknown = LogTemplate::parse("%PROTOCOL% %UPSTREAM_LOCAL_ADDRESS%").unwrap_err().to_string();
    assert!(
        unknown.starts_with("character 12: %UPSTREAM_LOCAL_ADDRESS%: no operator of this log; expected START_TIME, REQ(), "),
        "{unknown}"
    );
    assert!(LogTemplate::parse("%START_TIME(%n)%").unwrap_err().to_string().starts_with("character 1: %START_TIME%: "));
}

#[test]
fn what_lets_others_be_the_client_is_never_logged() {
    for name in ["cookie", "Authorization", "PROXY-AUTHORIZATION", "Set-Cookie"] {
        for text in [format!("%REQ({name})%"), format!("%REQ(a?{name})%"), format!("%RESP({name}):3%"), format!("%REQUEST_HEADER({name})%")]
        {
            let error = LogTemplate::parse(&text).unwrap_err().to_string();
            assert!(error.contains(" is never logged, since its value lets others be the client"), "{text}: {error}");
        }
    }
}
