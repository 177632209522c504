"""PJRT's C interface: structures, functions and numbers, from pjrt_c_api.h (openxla/xla).

Made by tools/make_pjrt.py from version 0.90.
"""

from __future__ import annotations

VERSION = (0, 90)

FUNCTIONS = (
    "PJRT_Error_Destroy", "PJRT_Error_Message", "PJRT_Error_GetCode", "PJRT_Plugin_Initialize",
    "PJRT_Plugin_Attributes", "PJRT_Event_Destroy", "PJRT_Event_IsReady", "PJRT_Event_Error",
    "PJRT_Event_Await", "PJRT_Event_OnReady", "PJRT_Client_Create", "PJRT_Client_Destroy",
    "PJRT_Client_PlatformName", "PJRT_Client_ProcessIndex", "PJRT_Client_PlatformVersion",
    "PJRT_Client_Devices", "PJRT_Client_AddressableDevices", "PJRT_Client_LookupDevice",
    "PJRT_Client_LookupAddressableDevice", "PJRT_Client_AddressableMemories",
    "PJRT_Client_Compile", "PJRT_Client_DefaultDeviceAssignment",
    "PJRT_Client_BufferFromHostBuffer", "PJRT_DeviceDescription_Id",
    "PJRT_DeviceDescription_ProcessIndex", "PJRT_DeviceDescription_Attributes",
    "PJRT_DeviceDescription_Kind", "PJRT_DeviceDescription_DebugString",
    "PJRT_DeviceDescription_ToString", "PJRT_Device_GetDescription", "PJRT_Device_IsAddressable",
    "PJRT_Device_LocalHardwareId", "PJRT_Device_AddressableMemories", "PJRT_Device_DefaultMemory",
    "PJRT_Device_MemoryStats", "PJRT_Memory_Id", "PJRT_Memory_Kind", "PJRT_Memory_DebugString",
    "PJRT_Memory_ToString", "PJRT_Memory_AddressableByDevices", "PJRT_Executable_Destroy",
    "PJRT_Executable_Name", "PJRT_Executable_NumReplicas", "PJRT_Executable_NumPartitions",
    "PJRT_Executable_NumOutputs", "PJRT_Executable_SizeOfGeneratedCodeInBytes",
    "PJRT_Executable_GetCostAnalysis", "PJRT_Executable_OutputMemoryKinds",
    "PJRT_Executable_OptimizedProgram", "PJRT_Executable_Serialize",
    "PJRT_LoadedExecutable_Destroy", "PJRT_LoadedExecutable_GetExecutable",
    "PJRT_LoadedExecutable_AddressableDevices", "PJRT_LoadedExecutable_Delete",
    "PJRT_LoadedExecutable_IsDeleted", "PJRT_LoadedExecutable_Execute",
    "PJRT_Executable_DeserializeAndLoad", "PJRT_LoadedExecutable_Fingerprint",
    "PJRT_Buffer_Destroy", "PJRT_Buffer_ElementType", "PJRT_Buffer_Dimensions",
    "PJRT_Buffer_UnpaddedDimensions", "PJRT_Buffer_DynamicDimensionIndices",
    "PJRT_Buffer_GetMemoryLayout", "PJRT_Buffer_OnDeviceSizeInBytes", "PJRT_Buffer_Device",
    "PJRT_Buffer_Memory", "PJRT_Buffer_Delete", "PJRT_Buffer_IsDeleted",
    "PJRT_Buffer_CopyToDevice", "PJRT_Buffer_ToHostBuffer", "PJRT_Buffer_IsOnCpu",
    "PJRT_Buffer_ReadyEvent", "PJRT_Buffer_UnsafePointer",
    "PJRT_Buffer_IncreaseExternalReferenceCount", "PJRT_Buffer_DecreaseExternalReferenceCount",
    "PJRT_Buffer_OpaqueDeviceMemoryDataPointer", "PJRT_CopyToDeviceStream_Destroy",
    "PJRT_CopyToDeviceStream_AddChunk", "PJRT_CopyToDeviceStream_TotalBytes",
    "PJRT_CopyToDeviceStream_GranuleSize", "PJRT_CopyToDeviceStream_CurrentBytes",
    "PJRT_TopologyDescription_Create", "PJRT_TopologyDescription_Destroy",
    "PJRT_TopologyDescription_PlatformName", "PJRT_TopologyDescription_PlatformVersion",
    "PJRT_TopologyDescription_GetDeviceDescriptions", "PJRT_TopologyDescription_Serialize",
    "PJRT_TopologyDescription_Attributes", "PJRT_Compile", "PJRT_Executable_OutputElementTypes",
    "PJRT_Executable_OutputDimensions", "PJRT_Buffer_CopyToMemory",
    "PJRT_Client_CreateViewOfDeviceBuffer", "PJRT_Executable_Fingerprint",
    "PJRT_Client_TopologyDescription", "PJRT_Executable_GetCompiledMemoryStats",
    "PJRT_Memory_Kind_Id", "PJRT_ExecuteContext_Create", "PJRT_ExecuteContext_Destroy",
    "PJRT_Buffer_CopyRawToHost", "PJRT_AsyncHostToDeviceTransferManager_Destroy",
    "PJRT_AsyncHostToDeviceTransferManager_TransferData",
    "PJRT_Client_CreateBuffersForAsyncHostToDevice",
    "PJRT_AsyncHostToDeviceTransferManager_RetrieveBuffer",
    "PJRT_AsyncHostToDeviceTransferManager_Device",
    "PJRT_AsyncHostToDeviceTransferManager_BufferCount",
    "PJRT_AsyncHostToDeviceTransferManager_BufferSize",
    "PJRT_AsyncHostToDeviceTransferManager_SetBufferError",
    "PJRT_AsyncHostToDeviceTransferManager_AddMetadata", "PJRT_Client_DmaMap",
    "PJRT_Client_DmaUnmap", "PJRT_Client_CreateUninitializedBuffer",
    "PJRT_Client_UpdateGlobalProcessInfo", "PJRT_TopologyDescription_Deserialize",
    "PJRT_Client_CreateAliasBuffer", "PJRT_Client_FulfillAliasBuffer",
    "PJRT_LoadedExecutable_GetDeviceAssignment", "PJRT_Client_CreateErrorBuffer",
    "PJRT_AsyncHostToDeviceTransferManager_TransferLiteral", "PJRT_Buffer_CopyRawToHostFuture",
    "PJRT_Device_PoisonExecution", "PJRT_Device_CreateAsyncTrackingEvent",
    "PJRT_AsyncTrackingEvent_Destroy", "PJRT_Executable_GetCompileOptions",
    "PJRT_Buffer_DonateWithControlDependency", "PJRT_Event_Create", "PJRT_Event_Set",
)
"""The functions of PJRT_Api in their order."""

STRUCTURES = {
    "PJRT_Api_Version": "24 head int:major_version int:minor_version",
    "PJRT_Error_Destroy_Args": "24 head pointer:error",
    "PJRT_Error_Message_Args": "40 head pointer:error pointer:message size:message_size",
    "PJRT_Error_GetCode_Args": "32 head pointer:error enum:code",
    "PJRT_NamedValue_Union": (
        "0 pointer:string_value int64:int64_value pointer:int64_array_value float:float_value "
        "bool:bool_value"
    ),
    "PJRT_NamedValue": (
        "56 head pointer:name size:name_size enum:type PJRT_NamedValue_Union:_ size:value_size"
    ),
    "PJRT_Plugin_Initialize_Args": "16 head",
    "PJRT_Plugin_Attributes_Args": "32 head pointer:attributes size:num_attributes",
    "PJRT_Event_Destroy_Args": "24 head pointer:event",
    "PJRT_Event_IsReady_Args": "32 head pointer:event bool:is_ready",
    "PJRT_Event_Error_Args": "24 head pointer:event",
    "PJRT_Event_Await_Args": "24 head pointer:event",
    "PJRT_Event_OnReady_Args": "40 head pointer:event pointer:callback pointer:user_arg",
    "PJRT_Event_Create_Args": "24 head pointer:event",
    "PJRT_Event_Set_Args": (
        "48 head pointer:event enum:error_code pointer:error_message size:error_message_size"
    ),
    "PJRT_Client_Create_Args": (
        "88 head pointer:create_options size:num_options pointer:kv_get_callback "
        "pointer:kv_get_user_arg pointer:kv_put_callback pointer:kv_put_user_arg pointer:client "
        "pointer:kv_try_get_callback pointer:kv_try_get_user_arg"
    ),
    "PJRT_Client_Destroy_Args": "24 head pointer:client",
    "PJRT_Client_PlatformName_Args": (
        "40 head pointer:client pointer:platform_name size:platform_name_size"
    ),
    "PJRT_Client_ProcessIndex_Args": "32 head pointer:client int:process_index",
    "PJRT_Client_PlatformVersion_Args": (
        "40 head pointer:client pointer:platform_version size:platform_version_size"
    ),
    "PJRT_Client_TopologyDescription_Args": "32 head pointer:client pointer:topology",
    "PJRT_Client_Devices_Args": "40 head pointer:client pointer:devices size:num_devices",
    "PJRT_Client_AddressableDevices_Args": (
        "40 head pointer:client pointer:addressable_devices size:num_addressable_devices"
    ),
    "PJRT_Client_LookupDevice_Args": "40 head pointer:client int:id pointer:device",
    "PJRT_Client_LookupAddressableDevice_Args": (
        "40 head pointer:client int:local_hardware_id pointer:addressable_device"
    ),
    "PJRT_Client_AddressableMemories_Args": (
        "40 head pointer:client pointer:addressable_memories size:num_addressable_memories"
    ),
    "PJRT_Program": "48 head pointer:code size:code_size pointer:format size:format_size",
    "PJRT_Client_Compile_Args": (
        "56 head pointer:client pointer:program pointer:compile_options "
        "size:compile_options_size pointer:executable"
    ),
    "PJRT_Client_DefaultDeviceAssignment_Args": (
        "48 head pointer:client int:num_replicas int:num_partitions "
        "size:default_assignment_size pointer:default_assignment"
    ),
    "PJRT_Client_DmaMap_Args": "40 head pointer:client pointer:data size:size",
    "PJRT_Client_DmaUnmap_Args": "32 head pointer:client pointer:data",
    "PJRT_Buffer_MemoryLayout_Tiled": (
        "56 head pointer:minor_to_major size:minor_to_major_size pointer:tile_dims "
        "pointer:tile_dim_sizes size:num_tiles"
    ),
    "PJRT_Buffer_MemoryLayout_Strides": "32 head pointer:byte_strides size:num_byte_strides",
    "PJRT_Buffer_MemoryLayout_Union": (
        "0 PJRT_Buffer_MemoryLayout_Tiled:tiled PJRT_Buffer_MemoryLayout_Strides:strides"
    ),
    "PJRT_Buffer_MemoryLayout": "80 head PJRT_Buffer_MemoryLayout_Union:_ enum:type",
    "PJRT_Client_CreateUninitializedBuffer_Args": (
        "80 head pointer:client pointer:shape_dims size:shape_num_dims enum:shape_element_type "
        "pointer:shape_layout pointer:device pointer:memory pointer:buffer"
    ),
    "PJRT_Client_CreateErrorBuffer_Args": (
        "96 head pointer:client enum:error_code pointer:error_message size:error_message_size "
        "pointer:shape_dims size:shape_num_dims enum:shape_element_type pointer:shape_layout "
        "pointer:memory pointer:buffer"
    ),
    "PJRT_Client_CreateAliasBuffer_Args": (
        "80 head pointer:client pointer:memory pointer:shape_dims size:shape_num_dims "
        "enum:shape_element_type pointer:shape_layout pointer:alias_buffer "
        "pointer:fulfill_alias_buffer_cb"
    ),
    "PJRT_Client_FulfillAliasBuffer_Args": (
        "64 head pointer:client pointer:buffer enum:status_code pointer:error_message "
        "size:error_message_size pointer:fulfill_alias_buffer_cb"
    ),
    "PJRT_Client_BufferFromHostBuffer_Args": (
        "120 head pointer:client pointer:data enum:type pointer:dims size:num_dims "
        "pointer:byte_strides size:num_byte_strides enum:host_buffer_semantics pointer:device "
        "pointer:memory pointer:device_layout pointer:done_with_host_buffer pointer:buffer"
    ),
    "PJRT_Client_CreateViewOfDeviceBuffer_Args": (
        "112 head pointer:client pointer:device_buffer_ptr pointer:dims size:num_dims "
        "enum:element_type pointer:layout pointer:device pointer:on_delete_callback "
        "pointer:on_delete_callback_arg int64:stream pointer:buffer pointer:memory"
    ),
    "PJRT_ShapeSpec": "40 head pointer:dims size:num_dims enum:element_type",
    "PJRT_DeviceDescription_Id_Args": "32 head pointer:device_description int:id",
    "PJRT_DeviceDescription_ProcessIndex_Args": (
        "32 head pointer:device_description int:process_index"
    ),
    "PJRT_DeviceDescription_Attributes_Args": (
        "40 head pointer:device_description size:num_attributes pointer:attributes"
    ),
    "PJRT_DeviceDescription_Kind_Args": (
        "40 head pointer:device_description pointer:device_kind size:device_kind_size"
    ),
    "PJRT_DeviceDescription_DebugString_Args": (
        "40 head pointer:device_description pointer:debug_string size:debug_string_size"
    ),
    "PJRT_DeviceDescription_ToString_Args": (
        "40 head pointer:device_description pointer:to_string size:to_string_size"
    ),
    "PJRT_Device_GetDescription_Args": "32 head pointer:device pointer:device_description",
    "PJRT_Device_IsAddressable_Args": "32 head pointer:device bool:is_addressable",
    "PJRT_Device_LocalHardwareId_Args": "32 head pointer:device int:local_hardware_id",
    "PJRT_Device_AddressableMemories_Args": (
        "40 head pointer:device pointer:memories size:num_memories"
    ),
    "PJRT_Device_DefaultMemory_Args": "32 head pointer:device pointer:memory",
    "PJRT_Device_MemoryStats_Args": (
        "192 head pointer:device int64:bytes_in_use int64:peak_bytes_in_use "
        "bool:peak_bytes_in_use_is_set int64:num_allocs bool:num_allocs_is_set "
        "int64:largest_alloc_size bool:largest_alloc_size_is_set int64:bytes_limit "
        "bool:bytes_limit_is_set int64:bytes_reserved bool:bytes_reserved_is_set "
        "int64:peak_bytes_reserved bool:peak_bytes_reserved_is_set int64:bytes_reservable_limit "
        "bool:bytes_reservable_limit_is_set int64:largest_free_block_bytes "
        "bool:largest_free_block_bytes_is_set int64:pool_bytes bool:pool_bytes_is_set "
        "int64:peak_pool_bytes bool:peak_pool_bytes_is_set"
    ),
    "PJRT_Device_PoisonExecution_Args": (
        "56 head pointer:device int:launch_id enum:error_code pointer:error_message "
        "size:error_message_size bool:poisoned"
    ),
    "PJRT_Device_CreateAsyncTrackingEvent_Args": (
        "48 head pointer:device pointer:description size:description_size pointer:event"
    ),
    "PJRT_AsyncTrackingEvent_Destroy_Args": "24 head pointer:event",
    "PJRT_Memory_Id_Args": "32 head pointer:memory int:id",
    "PJRT_Memory_Kind_Args": "40 head pointer:memory pointer:kind size:kind_size",
    "PJRT_Memory_Kind_Id_Args": "32 head pointer:memory int:kind_id",
    "PJRT_Memory_DebugString_Args": (
        "40 head pointer:memory pointer:debug_string size:debug_string_size"
    ),
    "PJRT_Memory_ToString_Args": "40 head pointer:memory pointer:to_string size:to_string_size",
    "PJRT_Memory_AddressableByDevices_Args": (
        "40 head pointer:memory pointer:devices size:num_devices"
    ),
    "PJRT_ExecuteContext_Create_Args": "24 head pointer:context",
    "PJRT_ExecuteContext_Destroy_Args": "24 head pointer:context",
    "PJRT_Executable_Destroy_Args": "24 head pointer:executable",
    "PJRT_LoadedExecutable_Destroy_Args": "24 head pointer:executable",
    "PJRT_LoadedExecutable_GetExecutable_Args": (
        "32 head pointer:loaded_executable pointer:executable"
    ),
    "PJRT_LoadedExecutable_GetDeviceAssignment_Args": (
        "56 head pointer:executable pointer:serialized_bytes size:serialized_bytes_size "
        "pointer:serialized_device_assignment pointer:serialized_device_assignment_deleter"
    ),
    "PJRT_Executable_Name_Args": (
        "40 head pointer:executable pointer:executable_name size:executable_name_size"
    ),
    "PJRT_Executable_NumReplicas_Args": "32 head pointer:executable size:num_replicas",
    "PJRT_Executable_NumPartitions_Args": "32 head pointer:executable size:num_partitions",
    "PJRT_LoadedExecutable_AddressableDevices_Args": (
        "40 head pointer:executable pointer:addressable_devices size:num_addressable_devices"
    ),
    "PJRT_Executable_OptimizedProgram_Args": "32 head pointer:executable pointer:program",
    "PJRT_LoadedExecutable_Delete_Args": "24 head pointer:executable",
    "PJRT_LoadedExecutable_IsDeleted_Args": "32 head pointer:executable bool:is_deleted",
    "PJRT_ExecuteOptions": (
        "112 head pointer:send_callbacks pointer:recv_callbacks size:num_send_ops "
        "size:num_recv_ops int:launch_id pointer:non_donatable_input_indices "
        "size:num_non_donatable_input_indices pointer:context pointer:call_location "
        "size:num_tasks pointer:task_ids pointer:incarnation_ids"
    ),
    "PJRT_LoadedExecutable_Execute_Args": (
        "80 head pointer:executable pointer:options pointer:argument_lists size:num_devices "
        "size:num_args pointer:output_lists pointer:device_complete_events "
        "pointer:execute_device"
    ),
    "PJRT_Executable_NumOutputs_Args": "32 head pointer:executable size:num_outputs",
    "PJRT_Executable_SizeOfGeneratedCodeInBytes_Args": (
        "32 head pointer:executable int64:size_in_bytes"
    ),
    "PJRT_Executable_Fingerprint_Args": (
        "40 head pointer:executable pointer:executable_fingerprint "
        "size:executable_fingerprint_size"
    ),
    "PJRT_Executable_GetCostAnalysis_Args": (
        "40 head pointer:executable size:num_properties pointer:properties"
    ),
    "PJRT_Executable_GetCompiledMemoryStats_Args": (
        "120 head pointer:executable int64:generated_code_size_in_bytes "
        "int64:argument_size_in_bytes int64:output_size_in_bytes int64:alias_size_in_bytes "
        "int64:temp_size_in_bytes int64:host_generated_code_size_in_bytes "
        "int64:host_argument_size_in_bytes int64:host_output_size_in_bytes "
        "int64:host_alias_size_in_bytes int64:host_temp_size_in_bytes "
        "int64:peak_memory_in_bytes int64:total_size_in_bytes"
    ),
    "PJRT_Executable_OutputElementTypes_Args": (
        "40 head pointer:executable pointer:output_types size:num_output_types"
    ),
    "PJRT_Executable_OutputDimensions_Args": (
        "48 head pointer:executable size:num_outputs pointer:dims pointer:dim_sizes"
    ),
    "PJRT_Executable_OutputMemoryKinds_Args": (
        "48 head pointer:executable size:num_outputs pointer:memory_kinds "
        "pointer:memory_kind_sizes"
    ),
    "PJRT_Executable_Serialize_Args": (
        "56 head pointer:executable pointer:serialized_bytes size:serialized_bytes_size "
        "pointer:serialized_executable pointer:serialized_executable_deleter"
    ),
    "PJRT_Executable_GetCompileOptions_Args": (
        "56 head pointer:executable pointer:serialized_bytes size:serialized_bytes_size "
        "pointer:serialized_compile_options pointer:serialized_compile_options_deleter"
    ),
    "PJRT_Executable_DeserializeAndLoad_Args": (
        "64 head pointer:client pointer:serialized_executable size:serialized_executable_size "
        "pointer:loaded_executable pointer:overridden_serialized_compile_options "
        "size:overridden_serialized_compile_options_size"
    ),
    "PJRT_LoadedExecutable_Fingerprint_Args": (
        "40 head pointer:executable pointer:executable_fingerprint "
        "size:executable_fingerprint_size"
    ),
    "PJRT_Buffer_Destroy_Args": "24 head pointer:buffer",
    "PJRT_Buffer_ElementType_Args": "32 head pointer:buffer enum:type",
    "PJRT_Buffer_Dimensions_Args": "40 head pointer:buffer pointer:dims size:num_dims",
    "PJRT_Buffer_UnpaddedDimensions_Args": (
        "40 head pointer:buffer pointer:unpadded_dims size:num_dims"
    ),
    "PJRT_Buffer_DynamicDimensionIndices_Args": (
        "40 head pointer:buffer pointer:dynamic_dim_indices size:num_dynamic_dims"
    ),
    "PJRT_Buffer_GetMemoryLayout_Args": "104 head pointer:buffer PJRT_Buffer_MemoryLayout:layout",
    "PJRT_Buffer_ToHostBuffer_Args": (
        "56 head pointer:src pointer:host_layout pointer:dst size:dst_size pointer:event"
    ),
    "PJRT_Buffer_OnDeviceSizeInBytes_Args": "32 head pointer:buffer size:on_device_size_in_bytes",
    "PJRT_Buffer_Delete_Args": "24 head pointer:buffer",
    "PJRT_Buffer_IsDeleted_Args": "32 head pointer:buffer bool:is_deleted",
    "PJRT_Buffer_CopyRawToHost_Args": (
        "56 head pointer:buffer pointer:dst int64:offset int64:transfer_size pointer:event"
    ),
    "PJRT_Buffer_CopyRawToHostFuture_Callback_Args": (
        "48 size:struct_size pointer:callback_data enum:error_code pointer:error_message "
        "size:error_message_size pointer:dst"
    ),
    "PJRT_Buffer_CopyRawToHostFuture_Args": (
        "64 head pointer:buffer int64:offset int64:transfer_size pointer:event "
        "pointer:callback_data pointer:future_ready_callback"
    ),
    "PJRT_Buffer_CopyToDevice_Args": "40 head pointer:buffer pointer:dst_device pointer:dst_buffer",
    "PJRT_Buffer_CopyToMemory_Args": "40 head pointer:buffer pointer:dst_memory pointer:dst_buffer",
    "PJRT_Buffer_IsOnCpu_Args": "32 head pointer:buffer bool:is_on_cpu",
    "PJRT_Buffer_Device_Args": "32 head pointer:buffer pointer:device",
    "PJRT_Buffer_Memory_Args": "32 head pointer:buffer pointer:memory",
    "PJRT_Buffer_ReadyEvent_Args": "32 head pointer:buffer pointer:event",
    "PJRT_Buffer_UnsafePointer_Args": "32 head pointer:buffer size:buffer_pointer",
    "PJRT_Buffer_IncreaseExternalReferenceCount_Args": "24 head pointer:buffer",
    "PJRT_Buffer_DecreaseExternalReferenceCount_Args": "24 head pointer:buffer",
    "PJRT_Buffer_OpaqueDeviceMemoryDataPointer_Args": (
        "32 head pointer:buffer pointer:device_memory_ptr"
    ),
    "PJRT_Buffer_DonateWithControlDependency_Callback_Args": (
        "40 size:struct_size pointer:callback_data enum:error_code pointer:error_message "
        "size:error_message_size"
    ),
    "PJRT_Buffer_DonateWithControlDependency_Args": (
        "48 head pointer:buffer pointer:callback_data pointer:dependency_ready_callback "
        "pointer:out_buffer"
    ),
    "PJRT_TopologyDescription_Create_Args": (
        "56 head pointer:topology_name size:topology_name_size pointer:create_options "
        "size:num_options pointer:topology"
    ),
    "PJRT_TopologyDescription_Destroy_Args": "24 head pointer:topology",
    "PJRT_TopologyDescription_PlatformVersion_Args": (
        "40 head pointer:topology pointer:platform_version size:platform_version_size"
    ),
    "PJRT_TopologyDescription_PlatformName_Args": (
        "40 head pointer:topology pointer:platform_name size:platform_name_size"
    ),
    "PJRT_TopologyDescription_GetDeviceDescriptions_Args": (
        "40 head pointer:topology pointer:descriptions size:num_descriptions"
    ),
    "PJRT_TopologyDescription_Serialize_Args": (
        "56 head pointer:topology pointer:serialized_bytes size:serialized_bytes_size "
        "pointer:serialized_topology pointer:serialized_topology_deleter"
    ),
    "PJRT_TopologyDescription_Deserialize_Args": (
        "40 head pointer:serialized_topology size:serialized_topology_size pointer:topology"
    ),
    "PJRT_TopologyDescription_Attributes_Args": (
        "40 head pointer:topology pointer:attributes size:num_attributes"
    ),
    "PJRT_Compile_Args": (
        "64 head pointer:topology pointer:program pointer:compile_options "
        "size:compile_options_size pointer:client pointer:executable"
    ),
}
"""The size of each structure (0: of a union) and its fields, as kind:name."""

PJRT_Error_Code = {
    "OK": 0, "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5, "ALREADY_EXISTS": 6, "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11, "UNIMPLEMENTED": 12,
    "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}

PJRT_NamedValue_Type = {
    "kString": 0, "kInt64": 1, "kInt64List": 2, "kFloat": 3, "kBool": 4,
}

PJRT_Buffer_Type = {
    "INVALID": 0, "PRED": 1, "S8": 2, "S16": 3, "S32": 4, "S64": 5, "U8": 6, "U16": 7, "U32": 8,
    "U64": 9, "F16": 10, "F32": 11, "F64": 12, "BF16": 13, "C64": 14, "C128": 15, "F8E5M2": 16,
    "F8E4M3FN": 17, "F8E4M3B11FNUZ": 18, "F8E5M2FNUZ": 19, "F8E4M3FNUZ": 20, "S4": 21, "U4": 22,
    "TOKEN": 23, "S2": 24, "U2": 25, "F8E4M3": 26, "F8E3M4": 27, "F8E8M0FNU": 28, "F4E2M1FN": 29,
}

PJRT_Buffer_MemoryLayout_Type = {
    "Tiled": 0, "Strides": 1,
}
