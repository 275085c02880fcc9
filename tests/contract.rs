//! The wire contract: names, numbers and types are those of the design, and all is documented.

#![allow(clippy::unwrap_used, clippy::panic)]

use portcullis::api::proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};

/// All that may never change, a line each; made from the design's `portcullis.proto`.
const GOLDEN: &str = include_str!("contract.golden");

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let ours = |file: &FileDescriptorProto| file.package() == "portcullis.v1";
    set.file.into_iter().filter(ours).collect()
}

#[test]
fn names_numbers_and_types_are_those_of_the_design() {
    let mut lines = Vec::new();
    for file in files() {
        for message in &file.message_type {
            list_message("", message, &mut lines);
        }
        for list in &file.enum_type {
            list_enum("", list, &mut lines);
        }
        for service in &file.service {
            list_service(service, &mut lines);
        }
    }
    for line in GOLDEN.lines() {
        assert!(lines.iter().any(|have| have == line), "missing: {line}");
    }
    for line in &lines {
        assert!(GOLDEN.lines().any(|want| want == line), "added: {line}");
    }
}

fn list_message(prefix: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{prefix}{}", message.name());
    lines.push(format!("message {name}"));
    for field in &message.field {
        lines.push(field_line(&name, message, field));
    }
    for nested in &message.nested_type {
        list_message(&format!("{name}."), nested, lines);
    }
    for nested in &message.enum_type {
        list_enum(&format!("{name}."), nested, lines);
    }
}

fn field_line(owner: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let optional = field.proto3_optional();
    let label = match field.label() {
        Label::Repeated => "repeated ",
        _ if optional => "optional ",
        _ => "",
    };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()).to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    };
    let oneof = field.oneof_index.filter(|_| !optional).map(|index| {
        let index = usize::try_from(index).unwrap();
        format!(" in {}", message.oneof_decl.get(index).unwrap().name())
    });
    let (name, number) = (field.name(), field.number());
    let oneof = oneof.unwrap_or_default();
    format!("field {owner}.{name} = {number} {label}{kind}{oneof}")
}

fn short(name: &str) -> &str {
    name.trim_start_matches(".portcullis.v1.")
        .trim_start_matches('.')
}

fn list_enum(prefix: &str, list: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{prefix}{}", list.name());
    lines.push(format!("enum {name}"));
    for value in &list.value {
        lines.push(format!(
            "value {name}.{} = {}",
            value.name(),
            value.number()
        ));
    }
}

fn list_service(service: &ServiceDescriptorProto, lines: &mut Vec<String>) {
    lines.push(format!("service {}", service.name()));
    for method in &service.method {
        lines.push(method_line(service.name(), method));
    }
}

fn method_line(service: &str, method: &MethodDescriptorProto) -> String {
    let stream = |is: bool| if is { "stream " } else { "" };
    format!(
        "rpc {service}.{} ({}{}) returns ({}{})",
        method.name(),
        stream(method.client_streaming()),
        short(method.input_type()),
        stream(method.server_streaming()),
        short(method.output_type()),
    )
}

#[test]
fn everything_has_a_leading_comment_and_no_trailing_one() {
    for file in files() {
        let mut paths = Vec::new();
        for (index, message) in file.message_type.iter().enumerate() {
            message_paths(&[4, number(index)], message, &mut paths);
        }
        for (index, list) in file.enum_type.iter().enumerate() {
            enum_paths(&[5, number(index)], list, &mut paths);
        }
        for (index, service) in file.service.iter().enumerate() {
            let path = [6, number(index)];
            paths.push((path.to_vec(), service.name().to_owned()));
            for (index, method) in service.method.iter().enumerate() {
                paths.push((child(&path, 2, index), method.name().to_owned()));
            }
        }
        for (path, name) in paths {
            check_comment(&file, &path, &name);
        }
    }
}

fn check_comment(file: &FileDescriptorProto, path: &[i32], name: &str) {
    let places = &file.source_code_info.as_ref().unwrap().location;
    let place = places.iter().find(|place| place.path == path).unwrap();
    let (file, leading) = (file.name(), place.leading_comments());
    assert!(leading.trim().len() > 3, "{file}: {name} has no comment");
    assert!(place.trailing_comments().is_empty(), "{file}: {name}");
}

type Paths = Vec<(Vec<i32>, String)>;

fn message_paths(path: &[i32], message: &DescriptorProto, paths: &mut Paths) {
    paths.push((path.to_vec(), message.name().to_owned()));
    for (index, field) in message.field.iter().enumerate() {
        paths.push((child(path, 2, index), field.name().to_owned()));
    }
    for (index, nested) in message.nested_type.iter().enumerate() {
        message_paths(&child(path, 3, index), nested, paths);
    }
    for (index, nested) in message.enum_type.iter().enumerate() {
        enum_paths(&child(path, 4, index), nested, paths);
    }
}

fn enum_paths(path: &[i32], list: &EnumDescriptorProto, paths: &mut Paths) {
    paths.push((path.to_vec(), list.name().to_owned()));
    for (index, value) in list.value.iter().enumerate() {
        paths.push((child(path, 2, index), value.name().to_owned()));
    }
}

/// The path of the `index`th of the children that stand in field `field` of a descriptor.
fn child(path: &[i32], field: i32, index: usize) -> Vec<i32> {
    let mut path = path.to_vec();
    path.extend([field, number(index)]);
    path
}

fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap()
}
